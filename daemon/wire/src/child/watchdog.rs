//! A shell that outlives us by a moment: it reads `+GROUP` and `-GROUP` lines, and kills the groups that are left when its
//! stdin ends, which is when we die, however we die.

#![cfg_attr(
    target_os = "linux",
    allow(dead_code, reason = "Linux has a death signal; tested there all the same")
)]

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::Pid;

const SCRIPT: &str = r#"
groups=" "
while read -r line; do
    group="${line#?}"
    case "$line" in
        +*) groups="$groups$group " ;;
        -*) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -KILL "-$group"; done 2>/dev/null
"#;

/// The running shell.
#[derive(Debug)]
pub(super) struct Watchdog {
    stdin: ChildStdin,
}

impl Watchdog {
    /// Starts it, in a group of its own, so that what kills us does not kill it.
    #[expect(clippy::disallowed_methods, reason = "the one child that must outlive us")]
    pub(super) fn start() -> io::Result<Watchdog> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT]).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let stdin = shell.spawn()?.stdin.take();
        Ok(Watchdog { stdin: stdin.ok_or(io::ErrorKind::BrokenPipe)? })
    }

    /// Kill `group` if we die.
    pub(super) fn guard(&mut self, group: Pid) -> io::Result<()> {
        writeln!(self.stdin, "+{}", group.as_raw_nonzero())
    }

    /// `group` has ended.
    pub(super) fn release(&mut self, group: Pid) -> io::Result<()> {
        writeln!(self.stdin, "-{}", group.as_raw_nonzero())
    }
}
