use proptest::prelude::*;

use super::*;

fn load(hosts: u64, packets: f64, flows: f64) -> Load {
    Load {
        hosts,
        packets_per_second: packets,
        flows_per_second: flows,
        open_flows: None,
        flows_days: 15,
        flows_1m_days: 90,
        flows_1h_days: 400,
        replicas: 1,
        batch_age_ms: 1000,
        idle_timeout_s: 15,
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= a.abs().max(b.abs()) * 1e-9
}

proptest! {
    #[test]
    fn more_load_never_takes_less(
        hosts in 1_u64..100_000,
        packets in 0.0..1e7,
        flows in 0.0..1e5,
        more in 0.0..1e5,
    ) {
        let plan = Plan::new(load(hosts, packets, flows));
        for larger in
            [load(hosts + 1, packets, flows), load(hosts, packets + more, flows), load(hosts, packets, flows + more)]
        {
            let larger = Plan::new(larger);
            let pairs = plan.host.iter().chain(&plan.store).zip(larger.host.iter().chain(&larger.store));
            for (one, other) in pairs {
                prop_assert!(one.value.is_finite() && one.value >= 0.0);
                match one.name {
                    "outage_held" => prop_assert!(other.value <= one.value),
                    name => prop_assert!(other.value >= one.value * (1.0 - 1e-12), "{name}"),
                }
            }
        }
    }

    #[test]
    fn twice_the_hosts_take_twice_the_store_and_nothing_more_of_a_host(
        hosts in 1_u64..100_000,
        packets in 0.0..1e7,
        flows in 0.0..1e5,
    ) {
        let (one, two) =
            (Plan::new(load(hosts, packets, flows)), Plan::new(load(hosts * 2, packets, flows)));
        prop_assert_eq!(&one.host, &two.host);
        for (a, b) in one.store.iter().zip(&two.store) {
            let factor = if a.name == "rows_per_insert" { 1.0 } else { 2.0 };
            prop_assert!(near(a.value * factor, b.value), "{}", a.name);
        }
    }
}

#[test]
fn figures_are_the_sums_of_docs_scale() {
    // The column of 1,000 hosts: f = 50, a = 5 s, R = 2; there 17.3 octets a row, without GeoIP.
    let plan = Plan::new(Load { replicas: 2, batch_age_ms: 5000, ..load(1000, 5000.0, 50.0) });
    let is = |name: &str, value: f64| assert!(near(plan.get(name).unwrap(), value), "{name}");
    is("rows_per_second", 50_000.0);
    is("rows_per_insert", 250.0);
    is("inserts_per_second", 200.0 + 200.0);
    is("parts_per_second", 600.0 + 200.0);
    is("disk_flows", 50_000.0 * 18.5 * 86_400.0 * 15.0 * 2.0);
    is("clickhouse_cores", 0.18);
    assert!(plan.notes.iter().any(|note| note.contains("age_ms")));
}

#[test]
fn every_figure_rests_on_costs_that_are_told() {
    let plan = Plan::new(load(1, 1.0, 1.0));
    let known: Vec<_> = plan.costs.iter().map(|cost| cost.name).collect();
    let used: Vec<_> =
        plan.host.iter().chain(&plan.store).flat_map(|figure| figure.rests_on.clone()).collect();
    assert!(used.iter().all(|name| known.contains(name)));
    assert!(known.iter().all(|name| used.contains(name)), "a cost that nothing uses");
    assert!(plan.costs.iter().all(|cost| !cost.measured_by.is_empty() && cost.value > 0.0));
    // Of ten cores' worth of text nothing is forgotten.
    let text = plan.text();
    assert!(known.iter().all(|name| text.contains(name)));
}
