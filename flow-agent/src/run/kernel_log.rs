//! What the kernel side has to say.

use crate::attach::Kernel;

/// The kernel side's own log lines, if it can log.
pub struct KernelLog(Option<aya_log::EbpfLogger<&'static dyn log::Log>>);

impl KernelLog {
    /// Takes the log of a loaded kernel side.
    pub fn new(kernel: &mut Kernel) -> Self {
        match aya_log::EbpfLogger::init(&mut kernel.ebpf) {
            Ok(logger) => Self(Some(logger)),
            Err(error) => {
                tracing::warn!("no log from the kernel side: {error}");
                Self(None)
            }
        }
    }

    /// Writes down what the kernel side has said.
    pub fn flush(&mut self) {
        if let Some(logger) = &mut self.0 {
            logger.flush();
        }
    }
}
