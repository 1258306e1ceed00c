use ratatui::crossterm::event::KeyEvent;
use serde_json::json;

use super::*;
use crate::status::Client;
use crate::top::flow::{OpenFlow, OpenFlows};
use crate::top::history::Look;

fn options() -> TopOptions {
    TopOptions {
        client: Client::new(([127, 0, 0, 1], 9469).into()),
        interval: Duration::from_secs(1),
        limit: 10,
        sort: Column::Octets,
        filter: String::new(),
        export_dir: std::env::temp_dir(),
    }
}

fn look(at: u64, ports: impl Iterator<Item = u16>) -> Look {
    let flow = |port: u16| OpenFlow {
        src_ip: format!("10.0.0.{}", port % 5),
        dst_ip: "10.0.1.1".into(),
        src_port: port,
        dst_port: 53,
        protocol: 17,
        packets: u64::from(port % 7),
        bytes: u64::from(port) * 100,
        ..OpenFlow::default()
    };
    let flows: Vec<_> = ports.map(flow).collect();
    let overview = json!({ "status": { "started": "then" } });
    let flows = OpenFlows { open: flows.len() as u64, flows };
    Look { at: Duration::from_secs(at), overview, flows }
}

fn press(app: &mut App, code: KeyCode) -> Next {
    app.key(KeyEvent::from(code), jiff::Timestamp::UNIX_EPOCH)
}

#[test]
fn every_column_sorts_both_ways() {
    let mut app = App::new(&options());
    app.take(Ok(look(0, 1..50)));
    for (position, column) in Column::ALL.into_iter().enumerate() {
        let digit = char::from_digit((position as u32 + 1) % 10, 10).unwrap();
        press(&mut app, KeyCode::Char('/'));
        press(&mut app, KeyCode::Enter);
        if app.sort != column {
            press(&mut app, KeyCode::Char(digit));
        }
        assert_eq!((app.sort, app.descending), (column, column.is_number()));
        for _ in 0..2 {
            let ordered = app.rows.windows(2).all(|pair| {
                let order = column.compare(&pair[0], &pair[1]);
                if app.descending { order.is_ge() } else { order.is_le() }
            });
            assert!(ordered, "{column:?}");
            press(&mut app, KeyCode::Char('r'));
        }
    }
}

#[test]
fn a_filter_acts_with_each_key_and_a_pause_holds_the_rows() {
    let mut app = App::new(&options());
    app.take(Ok(look(0, 1..50)));
    press(&mut app, KeyCode::Char('/'));
    let mut counts = vec![app.rows.len()];
    for typed in "10.0.0.3 :13".chars() {
        press(&mut app, KeyCode::Char(typed));
        counts.push(app.rows.len());
    }
    assert_eq!((counts[0], *counts.last().unwrap()), (49, 1));
    assert_eq!(app.rows[0].flow.src_port, 13);
    // Keys are letters while it is typed.
    assert_eq!(press(&mut app, KeyCode::Char('q')), Next::Stay);
    press(&mut app, KeyCode::Esc);
    assert!(!app.typing && app.rows.len() == 49);
    press(&mut app, KeyCode::Char('p'));
    app.take(Ok(look(1, 1..3)));
    assert_eq!(app.rows.len(), 49);
    press(&mut app, KeyCode::Char('p'));
    app.take(Ok(look(2, 1..3)));
    assert_eq!(app.rows.len(), 2);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Next::Quit);
}

#[test]
fn the_chosen_flow_stays_chosen_until_it_ends() {
    let mut app = App::new(&options());
    app.take(Ok(look(0, 1..50)));
    for _ in 0..3 {
        press(&mut app, KeyCode::Down);
    }
    let chosen = app.rows[app.chosen].flow.src_port;
    press(&mut app, KeyCode::Enter);
    app.take(Ok(look(1, 1..100)));
    assert_eq!((app.rows[app.chosen].flow.src_port, &app.overlay), (chosen, &Overlay::Detail));
    app.take(Ok(look(2, 1..2)));
    assert!(app.overlay == Overlay::None && app.notice.is_some() && app.chosen == 0);
    app.take(Ok(look(3, 1..1)));
    assert_eq!(press(&mut app, KeyCode::Enter), Next::Stay);
    assert_eq!(app.overlay, Overlay::None);
}
