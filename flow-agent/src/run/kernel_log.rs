//! The kernel side's own log lines.

use crate::attach::Kernel;

/// A reader of them, if the kernel side can log.
pub struct KernelLog(Option<aya_log::EbpfLogger<&'static dyn log::Log>>);

impl KernelLog {
    /// Of a kernel side.
    pub fn new(kernel: &mut Kernel) -> Self {
        match aya_log::EbpfLogger::init(&mut kernel.ebpf) {
            Ok(logger) => Self(Some(logger)),
            Err(error) => {
                tracing::warn!("no log from the kernel side: {error}");
                Self(None)
            }
        }
    }

    /// Passes on what has come.
    pub fn flush(&mut self) {
        if let Some(logger) = &mut self.0 {
            logger.flush();
        }
    }
}
