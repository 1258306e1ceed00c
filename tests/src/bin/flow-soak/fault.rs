//! What goes wrong during a round: one fault, drawn by chance.

use std::time::Duration;

use anyhow::Result;
use flow_tests::faulty::Faulty;
use flow_tests::process::Agent;
use flow_tests::proxy::Schedule;
use flow_tests::wild::Dice;
use rustix::process::Signal;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Some requests are reset, cut, unanswered, refused or slow.
    Requests,
    /// The store's port is closed.
    Away,
    /// The store stands still.
    Hung,
    /// The store is killed, at once and once more.
    Killed,
    /// The agent stands still for a second, then goes on.
    Still,
    /// The agent reads its configuration again.
    Hangup,
}

/// All of them; requests that fail are the usual trouble.
const ALL: [Fault; 9] = [
    Fault::None,
    Fault::None,
    Fault::Requests,
    Fault::Requests,
    Fault::Away,
    Fault::Hung,
    Fault::Killed,
    Fault::Still,
    Fault::Hangup,
];

/// A fault that has begun.
pub struct During(Fault);

impl Fault {
    /// One of them.
    pub fn pick(dice: &mut Dice) -> Self {
        dice.pick(&ALL)
    }

    /// Begins it.
    pub fn begin(self, faulty: Faulty, agent: &Agent, dice: &mut Dice) -> Result<(Faulty, During)> {
        const STILL: Duration = Duration::from_secs(1);
        let mut faulty = faulty;
        match self {
            Self::None => {}
            Self::Requests => {
                let schedule = Schedule::new(dice.below(1 << 30) as u64, 3).cut_within(20_000);
                faulty.proxy.on_request(schedule.script());
            }
            Self::Away => faulty.proxy.refuse()?,
            Self::Hung => faulty.store.signal(Signal::STOP),
            Self::Killed => faulty = faulty.crash_store(),
            Self::Still => {
                agent.signal(Signal::STOP)?;
                // Nobody sends: receiving is waiting.
                let (_sender, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(STILL);
                agent.signal(Signal::CONT)?;
            }
            Self::Hangup => agent.signal(Signal::HUP)?,
        }
        Ok((faulty, During(self)))
    }
}

impl During {
    /// Ends it.
    pub fn end(self, faulty: Faulty) -> Result<Faulty> {
        match self.0 {
            Fault::Requests => faulty.proxy.calm(),
            Fault::Away => faulty.proxy.accept()?,
            Fault::Hung => faulty.store.signal(Signal::CONT),
            Fault::Killed => return Ok(faulty.crash_store()),
            Fault::None | Fault::Still | Fault::Hangup => {}
        }
        Ok(faulty)
    }
}
