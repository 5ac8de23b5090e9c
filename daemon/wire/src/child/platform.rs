//! What differs between platforms about a child that must not outlive us.

#[cfg(target_os = "linux")]
pub(super) use linux::{die_with_parent, register, unregister};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{die_with_parent, register, unregister};

/// Puts the program into a session of its own, so that no signal to our terminal or group reaches it.
#[expect(
    unsafe_code,
    reason = "code between fork and exec can only be given through an unsafe call"
)]
pub(super) fn own_session(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure runs between fork and exec and makes one system call.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

    /// The kernel kills the child when the thread that starts it ends.
    #[expect(
        unsafe_code,
        reason = "code between fork and exec can only be given through an unsafe call"
    )]
    pub(in super::super) fn die_with_parent(command: &mut Command) {
        let parent = getpid();
        let before_exec = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the call above took effect.
            if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
        };
        // SAFETY: the closure runs between fork and exec; it makes two system calls, and neither allocates nor locks.
        unsafe {
            command.pre_exec(before_exec);
        }
    }

    /// Nothing to remember: the kernel does.
    pub(in super::super) fn register(_group: Option<Pid>) {}

    /// Nothing to forget.
    pub(in super::super) fn unregister(_group: Pid) {}
}

/// Platforms without a death signal, such as macOS: a watchdog kills the groups of children when our end of its pipe
/// closes. The watchdog itself is tested on Linux; that it is enough on macOS was reviewed and never run there.
#[cfg(not(target_os = "linux"))]
mod other {
    use std::process::Command;
    use std::sync::{Mutex, OnceLock};

    use rustix::process::Pid;

    use super::super::watchdog::Watchdog;

    static WATCHDOG: OnceLock<Option<Mutex<Watchdog>>> = OnceLock::new();

    /// Nothing can be done before exec; see `register`.
    pub(in super::super) fn die_with_parent(_command: &mut Command) {}

    pub(in super::super) fn register(group: Option<Pid>) {
        if let Some(group) = group {
            with_watchdog(|watchdog| watchdog.guard(group));
        }
    }

    pub(in super::super) fn unregister(group: Pid) {
        with_watchdog(|watchdog| watchdog.release(group));
    }

    fn with_watchdog(act: impl FnOnce(&mut Watchdog) -> std::io::Result<()>) {
        let watchdog = WATCHDOG.get_or_init(|| Watchdog::start().ok().map(Mutex::new));
        let Some(watchdog) = watchdog else {
            tracing::warn!("no watchdog: servers may outlive a daemon that is killed");
            return;
        };
        let mut watchdog = watchdog.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = act(&mut watchdog) {
            tracing::warn!(%error, "the watchdog is gone");
        }
    }
}
