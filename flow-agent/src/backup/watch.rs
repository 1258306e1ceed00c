//! A progress bar beside a BACKUP or RESTORE that runs: enters its future,
//! leaves its result.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::sink::{ClickHouse, SinkError};

/// How often the engine is asked.
const LOOK: Duration = Duration::from_millis(300);

/// Waits for `work`; when it takes long, a bar on a terminal shows how far the newest backup or
/// restore of the engine is.
pub async fn watch(
    client: &ClickHouse,
    message: &'static str,
    work: impl Future<Output = Result<(), SinkError>>,
) -> Result<(), SinkError> {
    let bar = bar(message);
    let look = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let sql = "SELECT greatest(bytes_read, uncompressed_size), total_size \
                       FROM system.backups ORDER BY start_time DESC LIMIT 1";
            let rows = client.table(sql).await.unwrap_or_default();
            let numbers: Vec<u64> =
                rows.into_iter().flatten().filter_map(|number| number.parse().ok()).collect();
            if let [done, total] = numbers[..] {
                if bar.is_hidden() {
                    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
                }
                bar.set_length(total);
                bar.set_position(done.min(total));
            }
        }
    };
    let result = tokio::select! {
        result = work => result,
        () = look, if std::io::stderr().is_terminal() => Ok(()),
    };
    bar.finish_and_clear();
    result
}

/// A bar that is not shown yet.
fn bar(message: &'static str) -> ProgressBar {
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {elapsed}";
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden()).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_message(message);
    bar
}
