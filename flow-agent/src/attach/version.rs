//! The kernel's version: the oldest that the agent runs on, and what later ones bring.

use aya::util::KernelVersion;

use super::AttachError;

/// The oldest kernel that the programs are tested on (`cargo xtask test --kernels`).
pub const OLDEST: KernelVersion = KernelVersion::new(6, 1, 0);
/// Since then programs are attached by TCX, which detaches them however the agent ends;
/// before, TC programs need a clsact qdisc.
pub const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// True if the kernel detaches TC programs when their descriptors are closed.
pub fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= TCX)
}

/// Says so before the verifier does, in its own way.
///
/// # Errors
/// This version is older than the oldest.
pub fn refuse_old(version: KernelVersion) -> Result<(), AttachError> {
    if version >= OLDEST {
        return Ok(());
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Err(AttachError::OldKernel { release: release.trim().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    #[test]
    fn a_kernel_that_is_too_old_is_refused_by_its_version() {
        for good in [OLDEST, TCX, KernelVersion::new(6, 1, 176), KernelVersion::new(7, 0, 0)] {
            assert!(refuse_old(good).is_ok(), "{good:?}");
        }
        for old in [KernelVersion::new(6, 0, 19), KernelVersion::new(5, 15, 200)] {
            let error = refuse_old(old).expect_err("it is older");
            assert_eq!(error.exit(), Exit::Privilege);
            assert!(error.to_string().contains("Linux 6.1 is the oldest"), "{error}");
        }
    }
}
