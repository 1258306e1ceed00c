//! What the tests and the demo are made of: a lab of two network namespaces, real
//! traffic between them, an independent count of every packet on the wire, the agent
//! and its store as child processes, an independent reference for metering captures,
//! and an HTTP client that does exactly what it is told, also what a good one never does.

pub mod attack;
pub mod bin_path;
pub mod browser;
pub mod cgroup;
pub mod cleanup;
pub mod command_help;
pub mod corpus;
pub mod counted;
pub mod damage;
pub mod dashboards;
pub mod documents;
pub mod explained;
pub mod failing_disk;
pub mod faketime;
pub mod faults;
pub mod faulty;
pub mod foreign;
pub mod fuzz;
pub mod hooks;
pub mod lab;
pub mod ledger;
pub mod made;
pub mod mmdb;
pub mod mortal;
pub mod one_cpu;
pub mod packets;
pub mod pairs;
pub mod peak;
pub mod pins;
pub mod port;
pub mod process;
pub mod proxy;
pub mod python;
pub mod raw_http;
pub mod reference;
pub mod refusal;
pub mod rig;
pub mod rows;
pub mod small_disk;
pub mod sql;
pub mod status;
pub mod store;
pub mod stored;
pub mod tally;
pub mod traffic;
pub mod tunnelled;
pub mod unattached;
pub mod watched;
pub mod wild;

/// The number that an environment variable says, or else the usual one.
///
/// # Panics
/// It says something else.
pub fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is expected"))
    })
}
