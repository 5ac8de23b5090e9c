//! Folders and processes of a stage.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid,
};

use super::MARK;
use crate::bench::conformance::subject::{Holes, Subject};
use crate::env_vars;

/// A folder with everything that the subject needs, and the environment that keeps it there.
#[allow(clippy::disallowed_methods, reason = "the folder is the stage's own")]
pub(super) fn furnish(subject: &Subject) -> Result<(Holes, BTreeMap<OsString, OsString>), String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Short, because the path of a socket has about a hundred bytes.
    let folder = std::env::temp_dir().join(format!("dc-{}-{number}", std::process::id()));
    let failed =
        |error: std::io::Error| format!("{} cannot be written ({error})", folder.display());
    for name in ["project", "config", "state", "cache", "data", "run"] {
        std::fs::create_dir_all(folder.join(name)).map_err(failed)?;
    }
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.join("run"), private).map_err(failed)?;
    let holes = Holes {
        program: crate::bench::sandbox::program(),
        socket: folder.join("s"),
        folder: folder.clone(),
        port: free_port().map_err(|error| format!("no port is free ({error})"))?,
    };
    for (path, text) in &subject.files {
        let path = folder.join(holes.text(path, ""));
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above).map_err(failed)?;
        }
        std::fs::write(&path, holes.text(text, "")).map_err(failed)?;
    }
    std::fs::write(folder.join("project/main.py"), super::super::MAIN).map_err(failed)?;
    let env = environment(&folder);
    Ok((holes, env))
}

fn environment(folder: &Path) -> BTreeMap<OsString, OsString> {
    let mut env = env_vars::everything();
    env.retain(|name, _| {
        let name = name.to_string_lossy();
        !name.starts_with("DEMOLISH_") && !name.starts_with("RUST_")
    });
    let mut set = |name: &str, value: &OsStr| env.insert(name.into(), value.into());
    set(env_vars::DEMOLISH_SOCKET, folder.join("run/demolish.sock").as_os_str());
    set(env_vars::HOME, folder.as_os_str());
    set(env_vars::XDG_CONFIG_HOME, folder.join("config").as_os_str());
    set(env_vars::XDG_STATE_HOME, folder.join("state").as_os_str());
    set(env_vars::XDG_RUNTIME_DIR, folder.join("run").as_os_str());
    set("XDG_CACHE_HOME", folder.join("cache").as_os_str());
    set("XDG_DATA_HOME", folder.join("data").as_os_str());
    set(MARK, folder.as_os_str());
    env
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// SIGKILL.
pub(in crate::bench::conformance) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether a process is there that is no zombie.
pub(in crate::bench::conformance) fn is_alive(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['Z', 'X'])),
        Err(_) if Path::new("/proc/self/stat").exists() => false,
        Err(_) => Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok()),
    }
}

/// Whether a child of ours runs. It is not waited for: that is done when its stage is closed.
pub(super) fn is_running(pid: i32) -> bool {
    let ended = Pid::from_raw(pid).and_then(|pid| {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), look).ok().flatten()
    });
    ended.is_none()
}

/// The exit code of a child that has ended.
pub(super) fn code(pid: Option<i32>) -> Option<i32> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_raw(pid?)?), look).ok()??.exit_status()
}

/// Kills what a proxy has left behind: processes that carry this stage's mark.
pub(super) fn sweep(folder: &Path) {
    let mark = [MARK.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat();
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
            kill(pid);
        }
    }
}
