//! Hooks: the programs of a [`Kernel`] on the interfaces that are to be metered.
//!
//! Enters: which interfaces there are, by [`Hooks::want`]. It attaches and detaches one
//! interface with each [`Hooks::step`], which takes some ms, so that whoever drains the
//! tables can do so in between. It holds that a packet is counted under the number of
//! its interface: the kernel side knows the number before a program is attached.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use flow_common::table::{InterfaceEntry, MAX_IFINDEX, PLANE_IFINDEXES, PLANES, index_base};

use super::expedite::Expedited;
use super::link::{Links, ifindexes};
use super::metered::{MeteredBook, MeteredInterface, MeteredList, RefusedInterface};
use super::predecessor::Inherited;
use super::{AttachError, Interface, Kernel, Numbers, Place, ProgramBook};

/// Before an interface that has refused is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Interfaces to attach or detach at once that are worth hurrying the kernel for.
const MANY: usize = 16;

/// The interfaces that are metered, and those that are to be.
pub struct Hooks {
    kernel: Kernel,
    numbers: Numbers,
    metered: BTreeMap<Place, Metered>,
    /// To be attached.
    queue: VecDeque<Interface>,
    /// To be detached.
    leaving: Vec<Metered>,
    refused: HashMap<Place, Refused>,
    /// The numbers of those that have refused, for when they are asked again.
    reserved: HashMap<Place, u16>,
    /// While there are many to attach or to detach.
    expedited: Option<Expedited>,
    /// Until the start is over: why interfaces refused.
    starting: Option<Vec<Failure>>,
    /// What others see of this.
    book: MeteredBook,
    /// Links of agents that are relieved, until they are used.
    inherited: Inherited,
}

struct Metered {
    interface: Interface,
    number: u16,
    plane: u32,
    links: Links,
}

struct Failure {
    /// The interface was asked for by its name.
    exact: bool,
    error: AttachError,
}

struct Refused {
    /// As in the rows.
    name: String,
    why: String,
    since: Instant,
}

impl Hooks {
    /// Nothing is attached yet.
    pub fn new(kernel: Kernel, numbers: Numbers) -> Self {
        Self {
            kernel,
            numbers,
            metered: BTreeMap::new(),
            queue: VecDeque::new(),
            leaving: Vec::new(),
            refused: HashMap::new(),
            reserved: HashMap::new(),
            expedited: None,
            starting: Some(Vec::new()),
            book: MeteredBook::default(),
            inherited: Inherited::new(),
        }
    }

    /// What is metered, up to date whenever there is nothing to attach or to detach.
    pub fn book(&self) -> MeteredBook {
        self.book.clone()
    }

    /// What the programs cost.
    pub fn programs(&self) -> ProgramBook {
        self.kernel.programs()
    }

    fn write_book(&self) {
        let metered = self.metered.values().map(|metered| MeteredInterface {
            name: metered.interface.to_string(),
            number: metered.number,
            ifindex: metered.interface.place.ifindex,
            ingress: metered.links.ingress.label(),
        });
        let refused = self.refused.values().map(|refused| RefusedInterface {
            name: refused.name.clone(),
            why: refused.why.clone(),
        });
        let (metered, refused) = (metered.collect(), refused.collect());
        self.book.set(MeteredList { metered, refused });
    }

    /// These are to be metered from now on, and no others.
    pub fn want(&mut self, wanted: Vec<Interface>, now: Instant) {
        let ifindexes = ifindexes();
        let wanted: BTreeMap<Place, Interface> =
            wanted.into_iter().map(|interface| (interface.place, interface)).collect();
        for (place, mut metered) in std::mem::take(&mut self.metered) {
            // A place may be taken by another interface, or another namespace, at once.
            let on = metered.links.is_on(place.ifindex, ifindexes.as_ref());
            let why = match wanted.get(&place) {
                Some(interface) if on && interface.mode == metered.interface.mode => {
                    if interface.to_string() != metered.interface.to_string() {
                        self.rename(&mut metered, interface, now);
                    }
                    self.metered.insert(place, metered);
                    continue;
                }
                Some(_) if on => "to be metered in another way",
                None if on => "left out or in another namespace: metered no longer",
                _ => "gone",
            };
            tracing::info!("{} is {why}", metered.interface);
            self.leaving.push(metered);
        }
        self.refused.retain(|place, refused| {
            wanted.get(place).is_some_and(|interface| interface.to_string() == refused.name)
        });
        for (_, number) in self.reserved.extract_if(|place, _| !self.refused.contains_key(place)) {
            self.numbers.give_back(number, now);
        }
        self.queue = wanted
            .into_values()
            .filter(|interface| !self.metered.contains_key(&interface.place))
            .filter(|interface| {
                let refused = self.refused.get(&interface.place);
                refused.is_none_or(|refused| now >= refused.since + ASK_AGAIN)
            })
            .collect();
        self.write_book();
    }

    /// Attaches to these links of agents that run, where it is asked for their interfaces.
    pub fn inherit(&mut self, links: Inherited) {
        self.inherited = links;
    }

    /// The links that nobody has asked for.
    pub fn not_inherited(&mut self) -> Inherited {
        std::mem::take(&mut self.inherited)
    }

    /// Pins all links for a successor.
    pub fn offer(&mut self, folder: &Path) {
        for Metered { interface, links, .. } in self.metered.values_mut() {
            links.offer(interface, folder);
        }
    }

    /// Puts the own programs back into all links.
    pub fn restore(&mut self) {
        for Metered { interface, plane, links, .. } in self.metered.values_mut() {
            links.restore(&mut self.kernel, *plane, interface);
        }
    }

    /// The numbers for interfaces.
    pub fn numbers(&mut self) -> &mut Numbers {
        &mut self.numbers
    }

    /// No interface is to be metered any more.
    pub fn want_none(&mut self) {
        self.queue.clear();
        self.leaving.extend(std::mem::take(&mut self.metered).into_values());
    }

    /// True while there is something to attach or to detach.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.leaving.is_empty()
    }

    /// Attaches or detaches one interface. What refuses is told, each on its own.
    pub fn step(&mut self, now: Instant) {
        if self.expedited.is_none() && self.queue.len() + self.leaving.len() >= MANY {
            self.expedited = Expedited::new();
        }
        if let Some(Metered { interface, number, links, .. }) = self.leaving.pop() {
            links.detach(&interface.namespace);
            self.numbers.give_back(number, now);
        } else if let Some(interface) = self.queue.pop_front() {
            match self.attach(&interface, now) {
                Ok(true) => {}
                // Others meanwhile.
                Ok(false) => {
                    self.expedited = None;
                    self.queue.push_back(interface);
                }
                Err(error) => self.refuse(interface, error, now),
            }
        }
        if !self.is_busy() {
            self.expedited = None;
            self.write_book();
        }
    }

    /// The start is over: from now on an interface that refuses is told and left out.
    ///
    /// # Errors
    /// An interface that was asked for by name has refused, or every interface has.
    pub fn started(&mut self) -> Result<(), AttachError> {
        let failures = self.starting.take().unwrap_or_default();
        let none = self.metered.is_empty();
        let (fatal, others): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|failure| failure.exact || none);
        for Failure { error, .. } in others {
            tracing::warn!("{error}; the others are metered");
        }
        AttachError::all(fatal.into_iter().map(|failure| failure.error).collect())
    }

    /// How many interfaces are metered.
    pub fn metered(&self) -> usize {
        self.metered.len()
    }

    /// The number of an interface that is metered.
    pub fn number(&self, place: Place) -> Option<u16> {
        self.metered.get(&place).map(|metered| metered.number)
    }

    /// False if it must wait for a plane to be loaded.
    fn attach(&mut self, interface: &Interface, now: Instant) -> Result<bool, AttachError> {
        let plane = self.plane_for(interface)?;
        if plane >= self.kernel.planes() && !self.kernel.add_plane()? {
            return Ok(false);
        }
        let number = match self.reserved.remove(&interface.place) {
            Some(number) => number,
            None => self.number_for(interface, now)?,
        };
        let attached = self.attach_as(interface, plane, number);
        let links = attached.inspect_err(|_| {
            self.reserved.insert(interface.place, number);
        })?;
        let egress = if interface.loopback { "" } else { " and TC egress" };
        tracing::info!("metering {interface} by {}{egress}", links.ingress.label());
        self.refused.remove(&interface.place);
        let metered = Metered { interface: interface.clone(), number, plane, links };
        self.metered.insert(interface.place, metered);
        Ok(true)
    }

    fn attach_as(
        &mut self,
        interface: &Interface,
        plane: u32,
        number: u16,
    ) -> Result<Links, AttachError> {
        self.tell(interface, plane, number)?;
        let (kernel, inherited) = (&mut self.kernel, &mut self.inherited);
        interface.namespace.run(|| Links::attach(kernel, plane, interface, inherited))
    }

    /// Tells the programs of a plane the number of an interface, and before that the next
    /// agent the name that belongs to it.
    fn tell(&mut self, interface: &Interface, plane: u32, number: u16) -> Result<(), AttachError> {
        let entry = InterfaceEntry {
            number,
            raw_ip: interface.raw_ip.into(),
            direction_mask: if interface.loopback { 0 } else { u8::MAX },
        };
        self.kernel.set_name(number, &interface.to_string())?;
        self.kernel.set_interface(index_base(plane) + interface.place.ifindex, entry)
    }

    fn number_for(&mut self, interface: &Interface, now: Instant) -> Result<u16, AttachError> {
        self.numbers.take(&interface.to_string(), now).ok_or_else(|| AttachError::NoNumber {
            interface: interface.to_string(),
            most: self.numbers.most(),
        })
    }

    /// The first plane in which the interface's index is free.
    fn plane_for(&self, interface: &Interface) -> Result<u32, AttachError> {
        let ifindex = interface.place.ifindex;
        let same =
            || self.metered.values().filter(|other| other.interface.place.ifindex == ifindex);
        let free = |plane: &u32| same().all(|other| other.plane != *plane);
        let plane = (0..PLANES).find(free).unwrap_or(PLANES);
        let limit = if plane == 0 { MAX_IFINDEX } else { PLANE_IFINDEXES };
        if ifindex >= limit {
            let what = format!("the index {ifindex} of {interface}");
            return Err(AttachError::TooMany { what, limit: limit - 1 });
        }
        if plane >= PLANES {
            let what =
                format!("an interface with index {ifindex} in one more namespace, {interface},");
            return Err(AttachError::TooMany { what, limit: PLANES });
        }
        Ok(plane)
    }

    /// The same interface under another name: another number, so that what was counted
    /// until now keeps the name that it was counted under.
    fn rename(&mut self, metered: &mut Metered, interface: &Interface, now: Instant) {
        tracing::info!("{} is now {interface}", metered.interface);
        metered.interface = interface.clone();
        let renamed = self.number_for(interface, now).and_then(|number| {
            let told = self.tell(interface, metered.plane, number);
            told.inspect_err(|_| self.numbers.give_back(number, now))?;
            Ok(number)
        });
        match renamed {
            Ok(number) => {
                self.numbers.give_back(metered.number, now);
                metered.number = number;
            }
            Err(error) => tracing::warn!("its rows keep the old name: {error}"),
        }
    }

    fn refuse(&mut self, interface: Interface, error: AttachError, now: Instant) {
        let why = error.to_string();
        let told = self.refused.get(&interface.place).is_some_and(|refused| refused.why == why);
        let refused = Refused { name: interface.to_string(), why, since: now };
        self.refused.insert(interface.place, refused);
        match &mut self.starting {
            Some(failures) => failures.push(Failure { exact: interface.exact, error }),
            None if told => {}
            None => tracing::warn!("{error}; the others are metered"),
        }
    }
}
