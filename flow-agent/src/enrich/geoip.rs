//! Countries and autonomous systems by address, from files in MaxMind's format.
//!
//! The files are read and checked whole before they are used. When one changes, a thread reads
//! it again; what cannot be used is named in a warning and the data of before stay.

use std::fs::{self, Metadata};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use maxminddb::{MaxMindDbError, Reader, path};

use super::memo::{Lifetime, Memo};
use super::stats::Counts;
use super::{Country, EnrichmentCache};
use crate::Exit;

/// Why a file of addresses cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum GeoError {
    /// It cannot be read.
    #[error("the GeoIP file {path} cannot be read: {source}; give the path of a .mmdb file")]
    Read { path: String, source: io::Error },
    /// It is damaged, or something else.
    #[error(
        "the GeoIP file {path} is no whole MaxMind database: {source}; download it again or give \
         another one"
    )]
    Damaged { path: String, source: MaxMindDbError },
    /// It is for something else.
    #[error("the GeoIP file {path} is of type {found}, which has no {wanted}; {remedy}")]
    Kind { path: String, found: String, wanted: &'static str, remedy: &'static str },
}

impl GeoError {
    /// The process exit code for these errors.
    pub const EXIT: Exit = Exit::Usage;
}

/// Which files to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeoFiles {
    /// One with countries, such as GeoLite2-City or GeoLite2-Country.
    pub country: Option<PathBuf>,
    /// One with autonomous systems, such as GeoLite2-ASN.
    pub asn: Option<PathBuf>,
}

impl GeoFiles {
    /// True if no file is given.
    pub fn is_empty(&self) -> bool {
        self.country.is_none() && self.asn.is_none()
    }
}

/// Where an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The country.
    pub country: Country,
    /// The autonomous system's number, 0 for unknown.
    pub asn: u32,
}

/// Places by address (IPv4 mapped, network order).
pub struct GeoIp {
    databases: Databases,
    /// Newer ones.
    fresh: Option<Receiver<Databases>>,
    memo: Memo<u128, Place>,
}

impl GeoIp {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, is damaged or has other data.
    pub fn open(files: &GeoFiles, lifetime: Lifetime) -> Result<Self, GeoError> {
        let open =
            |file: &Option<PathBuf>, kind| file.as_deref().map(|path| open(path, kind)).transpose();
        let country = open(&files.country, Kind::Country)?;
        let asn = open(&files.asn, Kind::Asn)?;
        Ok(Self { databases: Databases { country, asn }, fresh: None, memo: Memo::new(lifetime) })
    }

    /// Looks for changed files every so often, on a thread that ends when the other end of
    /// `stop` is gone.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn watch(
        &mut self,
        files: &GeoFiles,
        every: Duration,
        stop: Receiver<()>,
    ) -> io::Result<()> {
        let (news, fresh) = bounded(1);
        let watched = |file: &Option<PathBuf>, kind| {
            file.as_ref().map(|path| Watched { path: path.clone(), kind, seen: identity(path) })
        };
        let watcher = Watcher {
            country: watched(&files.country, Kind::Country),
            asn: watched(&files.asn, Kind::Asn),
            databases: self.databases.clone(),
            news,
        };
        self.fresh = Some(fresh);
        thread::Builder::new().name("geoip".into()).spawn(move || watcher.run(every, &stop))?;
        Ok(())
    }
}

impl EnrichmentCache for GeoIp {
    type Key = u128;
    type Value = Place;

    fn name(&self) -> &'static str {
        "geoip"
    }

    fn settle(&mut self, _now_s: u32) {
        if let Some(databases) = self.fresh.as_ref().and_then(|fresh| fresh.try_recv().ok()) {
            self.databases = databases;
            self.memo.clear();
        }
    }

    fn look_up(&mut self, address: &u128, now_s: u32) -> Option<&Place> {
        // The files are in memory: what the memo lacks is found without waiting.
        if self.memo.get(address, now_s).is_none() {
            self.memo.put(*address, self.databases.place(*address), now_s);
        }
        self.memo.peek(address)
    }

    fn counts(&self) -> Counts {
        self.memo.counts()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Country,
    Asn,
}

type Database = Arc<Reader<Vec<u8>>>;

#[derive(Clone)]
struct Databases {
    country: Option<Database>,
    asn: Option<Database>,
}

impl Databases {
    /// What an address has no data for, or data that cannot be read, is unknown.
    fn place(&self, address: u128) -> Place {
        let address = Ipv6Addr::from_bits(address);
        let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
        let country = self.country.as_ref().and_then(|database| {
            let found = database.lookup(address).ok()?;
            found.decode_path::<&str>(&path!["country", "iso_code"]).ok()?.map(Country::new)
        });
        let asn = self.asn.as_ref().and_then(|database| {
            let found = database.lookup(address).ok()?;
            found.decode_path::<u32>(&path!["autonomous_system_number"]).ok()?
        });
        Place { country: country.unwrap_or_default(), asn: asn.unwrap_or_default() }
    }
}

/// Reads a database and checks all of it.
fn open(path: &Path, kind: Kind) -> Result<Database, GeoError> {
    let name = || path.display().to_string();
    let read = || {
        // A device or fifo may have no end.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        fs::read(path)
    };
    let octets = read().map_err(|source| GeoError::Read { path: name(), source })?;
    let damaged = |source| GeoError::Damaged { path: name(), source };
    let database = Reader::from_source(octets).map_err(damaged)?;
    let found = &database.metadata().database_type;
    let (wanted, other, remedy) = match kind {
        Kind::Country => ("countries", "-ASN", "give it as geoip_asn"),
        Kind::Asn => ("autonomous systems", "-C", "give it as geoip_country"), // Country, City
    };
    if found.contains(other) {
        return Err(GeoError::Kind { path: name(), found: found.clone(), wanted, remedy });
    }
    database.verify().map_err(damaged)?;
    Ok(Arc::new(database))
}

/// Tells whether a file is another one than before.
fn identity(path: &Path) -> Option<(u64, u64, u64, i64, i64)> {
    let of = |file: Metadata| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec());
    fs::metadata(path).ok().map(of)
}

struct Watched {
    path: PathBuf,
    kind: Kind,
    seen: Option<(u64, u64, u64, i64, i64)>,
}

impl Watched {
    /// The database, if the file is another one and can be used.
    fn changed(&mut self) -> Option<Database> {
        let now = identity(&self.path);
        if now == self.seen {
            return None;
        }
        self.seen = now;
        match open(&self.path, self.kind) {
            Ok(database) => {
                tracing::info!("the GeoIP file {} was read again", self.path.display());
                Some(database)
            }
            Err(error) => {
                tracing::warn!("{error}; the data of before stay in use");
                None
            }
        }
    }
}

struct Watcher {
    country: Option<Watched>,
    asn: Option<Watched>,
    databases: Databases,
    news: Sender<Databases>,
}

impl Watcher {
    fn run(mut self, every: Duration, stop: &Receiver<()>) {
        while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let country = self.country.as_mut().and_then(Watched::changed);
            let asn = self.asn.as_mut().and_then(Watched::changed);
            if country.is_none() && asn.is_none() {
                continue;
            }
            self.databases.country = country.or(self.databases.country);
            self.databases.asn = asn.or(self.databases.asn);
            // Waits only until the last news were taken; without a taker there is nothing to do.
            if self.news.send(self.databases.clone()).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::enrich::mmdb::{Mmdb, asn_database, country_database};

    const LIFETIME: Lifetime = Lifetime { entries: 2, ttl: Duration::from_secs(60) };

    fn key(address: &str) -> u128 {
        match address.parse().expect("an address") {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    fn place(cache: &mut GeoIp, address: &str) -> (String, u32) {
        let place = *cache.look_up(&key(address), 0).expect("the files are in memory");
        (place.country.as_str().into(), place.asn)
    }

    fn files(folder: &Path) -> GeoFiles {
        let (country, asn) = (folder.join("country.mmdb"), folder.join("asn.mmdb"));
        fs::write(&country, country_database(&[("192.0.2.0/24", "DE"), ("2001:db8::/32", "FR")]))
            .expect("ours");
        fs::write(&asn, asn_database(&[("192.0.2.0/25", 64_500), ("2001:db8:1::/48", 64_501)]))
            .expect("ours");
        GeoFiles { country: Some(country), asn: Some(asn) }
    }

    #[test]
    fn addresses_have_the_place_of_their_longest_network() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut cache = GeoIp::open(&files(folder.path()), LIFETIME).expect("whole");
        for (address, country, asn) in [
            ("192.0.2.1", "DE", 64_500),
            ("192.0.2.200", "DE", 0),
            ("192.0.3.1", "", 0),
            ("2001:db8:1::7", "FR", 64_501),
            ("2001:db8:2::7", "FR", 0),
            ("::", "", 0),
            ("192.0.2.1", "DE", 64_500),
        ] {
            assert_eq!(place(&mut cache, address), (country.into(), asn), "{address}");
        }
        assert_eq!(cache.counts().entries, 2);
        assert!(cache.counts().evictions > 0);
    }

    #[test]
    fn a_file_for_ipv4_alone_knows_nothing_of_ipv6() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("v4.mmdb");
        let database = Mmdb::new("GeoLite2-Country", 4)
            .country(Ipv4Addr::new(10, 0, 0, 0).into(), 8, "NL")
            .build();
        fs::write(&path, database).expect("ours");
        let files = GeoFiles { country: Some(path), asn: None };
        let mut cache = GeoIp::open(&files, LIFETIME).expect("whole");
        assert_eq!(place(&mut cache, "10.1.2.3").0, "NL");
        assert_eq!(place(&mut cache, "2001:db8::1").0, "");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let given = files(folder.path());
        let (country, asn) = (given.country.expect("given"), given.asn.expect("given"));
        let whole = fs::read(&country).expect("ours");
        let cut = folder.path().join("cut.mmdb");
        fs::write(&cut, &whole[..whole.len() / 2]).expect("ours");
        let text = folder.path().join("text.mmdb");
        fs::write(&text, "no database").expect("ours");
        let refused = |country: Option<&Path>, asn: Option<&Path>, words: &str| {
            let files = GeoFiles { country: country.map(Into::into), asn: asn.map(Into::into) };
            let error = GeoIp::open(&files, LIFETIME).err().expect(words).to_string();
            let path = country.or(asn).expect("one").display().to_string();
            assert!(error.contains(&path) && error.contains(words), "{error}");
        };
        refused(Some(&folder.path().join("missing")), None, "give the path of a .mmdb file");
        refused(Some(folder.path()), None, "no regular file");
        refused(Some(Path::new("/dev/zero")), None, "no regular file");
        refused(Some(&cut), None, "download it again");
        refused(None, Some(&text), "download it again");
        refused(Some(&asn), None, "which has no countries; give it as geoip_asn");
        refused(None, Some(&country), "which has no autonomous systems; give it as geoip_country");
    }

    #[test]
    fn a_changed_file_is_followed_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        let path = files.country.clone().expect("given");
        let mut watched =
            Watched { path: path.clone(), kind: Kind::Country, seen: identity(&path) };
        assert!(watched.changed().is_none(), "nothing is new");
        let replace = |octets: &[u8]| {
            fs::write(folder.path().join("new"), octets).expect("ours");
            fs::rename(folder.path().join("new"), &path).expect("ours");
        };
        replace(b"broken");
        assert!(watched.changed().is_none(), "damaged");
        fs::remove_file(&path).expect("ours");
        assert!(watched.changed().is_none(), "gone");
        replace(&country_database(&[("192.0.2.0/24", "AT")]));
        let database = watched.changed().expect("another one");
        assert!(watched.changed().is_none(), "told once");

        let mut cache = GeoIp::open(&files, LIFETIME).expect("whole");
        assert_eq!(place(&mut cache, "192.0.2.1").1, 64_500);
        let (news, fresh) = bounded(1);
        cache.fresh = Some(fresh);
        news.send(Databases { country: Some(database), asn: None }).expect("room");
        cache.settle(0);
        assert_eq!(place(&mut cache, "192.0.2.1"), ("AT".into(), 0));
    }

    #[test]
    fn the_watcher_ends_with_its_owner_and_hands_over_what_is_new() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        let mut cache = GeoIp::open(&files, LIFETIME).expect("whole");
        let (owner, stop) = bounded::<()>(0);
        cache.watch(&files, Duration::from_millis(1), stop).expect("a thread");
        fs::write(folder.path().join("new"), country_database(&[("192.0.2.0/24", "CH")]))
            .expect("ours");
        fs::rename(folder.path().join("new"), files.country.expect("given")).expect("ours");
        let fresh = cache.fresh.take().expect("watched");
        let databases = fresh.recv_timeout(Duration::from_secs(30)).expect("news");
        assert_eq!(databases.place(key("192.0.2.1")).country.as_str(), "CH");
        drop(owner);
        assert_eq!(
            fresh.recv_timeout(Duration::from_secs(30)).err(),
            Some(RecvTimeoutError::Disconnected)
        );
    }
}
