use super::*;

fn calm() -> Figures {
    Figures {
        phase_is_metering: true,
        drains: 1_000,
        early: 3,
        cache_flows: Some((1_000, 1_000)),
        disk: (16 << 20, 4 << 30),
        memory: (0, 64 << 20),
        insert_p99_ns: 100_000_000,
        ..Figures::default()
    }
}

fn ids(figures: &Figures) -> Vec<&'static str> {
    judge(figures).iter().map(|alert| alert.id).collect()
}

#[test]
fn all_is_well_when_it_is() {
    assert!(ids(&calm()).is_empty());
    assert!(ids(&Figures { cache_flows: None, ..calm() }).is_empty());
    let files = Figures { disk: (4 << 30, 4 << 30), oldest_s: 0, ..calm() };
    assert!(ids(&files).is_empty(), "files of settled batches are no backlog");
}

#[test]
fn each_figure_has_its_alert_and_each_alert_says_what_to_do() {
    let text = || Some("why".to_owned());
    for (figures, id, severity) in [
        (Figures { illness: text(), ..calm() }, "not_drained", Severity::Critical),
        (Figures { unaccounted: -1, ..calm() }, "unaccounted", Severity::Critical),
        (Figures { lost: 7, lost_lately: 7, ..calm() }, "kernel_tables_full", Severity::Critical),
        (Figures { lost: 7, ..calm() }, "kernel_tables_full", Severity::Info),
        (Figures { early: 300, ..calm() }, "kernel_tables_filling", Severity::Warning),
        (
            Figures { refused: vec![("eth9".into(), "why".into())], ..calm() },
            "interface_refused",
            Severity::Warning,
        ),
        (Figures { phase_is_metering: false, ..calm() }, "not_metering", Severity::Info),
        (Figures { cache_flows: Some((10, 1_000)), ..calm() }, "cache_shrunk", Severity::Warning),
        (Figures { evicted_full: 1, ..calm() }, "cache_full", Severity::Warning),
        (Figures { evicted_memory: 1, ..calm() }, "cache_full", Severity::Warning),
        (Figures { analytics_skipped: 1, ..calm() }, "analytics_skipped", Severity::Info),
        (Figures { held: text(), ..calm() }, "store_refuses", Severity::Critical),
        (Figures { late: text(), failing: text(), ..calm() }, "store_away", Severity::Critical),
        (Figures { failing: text(), ..calm() }, "store_failing", Severity::Warning),
        (
            Figures { endpoints_down: vec!["why".into()], ..calm() },
            "store_failing",
            Severity::Warning,
        ),
        (Figures { insert_p99_ns: 6_000_000_000, ..calm() }, "late_inserts", Severity::Warning),
        (Figures { quarantined: 1, ..calm() }, "quarantine", Severity::Warning),
        (Figures { spool_trouble: text(), ..calm() }, "spool_disk", Severity::Critical),
        (Figures { oldest_s: 61, ..calm() }, "rows_late", Severity::Warning),
        (Figures { undelivered: 1, ..calm() }, "undelivered", Severity::Critical),
    ] {
        let alerts = judge(&figures);
        let [alert] = &alerts[..] else { panic!("{id}: {alerts:?}") };
        assert_eq!((alert.id, alert.severity), (id, severity));
        assert!(!alert.title.is_empty() && !alert.detail.is_empty() && !alert.action.is_empty());
    }
}

#[test]
fn a_spool_that_fills_is_graver_the_fuller_it_is() {
    let filling = |share: f64, oldest_s| {
        let figures = Figures { disk: ((share * 1e9) as u64, 1_000_000_000), oldest_s, ..calm() };
        judge(&figures).into_iter().find(|alert| alert.id == "spool_filling")
    };
    assert_eq!(filling(0.5, 100), None);
    assert_eq!(filling(0.8, 100).map(|alert| alert.severity), Some(Severity::Warning));
    assert_eq!(filling(0.95, 100).map(|alert| alert.severity), Some(Severity::Critical));
    assert_eq!(filling(0.95, 10), None, "rows that go on at once are no backlog");
}

#[test]
fn the_gravest_comes_first() {
    let figures = Figures {
        evicted_full: 1,
        refused: vec![("eth9".into(), "why".into()), ("eth8".into(), "why".into())],
        phase_is_metering: false,
        undelivered: 3,
        ..calm()
    };
    let alerts = judge(&figures);
    assert!(alerts.is_sorted_by_key(|alert| alert.severity), "{alerts:?}");
    assert_eq!(alerts[0].id, "undelivered");
    assert!(alerts.iter().any(|alert| alert.detail.ends_with("and 1 more")));
}
