//! A real VS Code, twice: its own language client starts the language server directly, and through the proxy. What it shows
//! must be the same.
//!
//! VS Code is code-server with a headless Chromium, because it alone comes through package registries. It is not part of the
//! slow run's set-up: `cargo xtask setup --with vscode` brings it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value as Json, json};
use testkit::places;
use testkit::sandbox::Sandbox;
use tokio::process::{Child, Command};

use super::editor::slow;

/// How long VS Code may take until the probe has written what it saw.
const PATIENCE: Duration = Duration::from_secs(150);

/// `None`, and a line that says so, where VS Code is not installed.
fn installed() -> Option<PathBuf> {
    let modules = places::root().join(".tools/vscode");
    if modules.join("code-server").is_dir() && chromium().is_some() {
        return Some(modules);
    }
    println!("skipped: VS Code is not installed; `cargo xtask setup --with vscode` brings it");
    None
}

fn chromium() -> Option<PathBuf> {
    ["/usr/bin/chromium", "/usr/bin/chromium-browser"]
        .map(PathBuf::from)
        .into_iter()
        .find(|p| p.exists())
}

/// The folders of one run.
struct Desk {
    sandbox: Sandbox,
    project: PathBuf,
    modules: PathBuf,
}

impl Desk {
    fn new(modules: &Path) -> Result<Desk> {
        let bin = places::demolish()?.parent().map(Path::to_path_buf).unwrap_or_default();
        let sandbox = Sandbox::new(&[bin])?;
        let project = sandbox.copy_in(&places::root().join("tests/demo/python"))?;
        let extension = sandbox.home().join("ext/demolish.demolish-probe-0.0.1");
        fs::create_dir_all(&extension)?;
        for name in ["package.json", "extension.js"] {
            fs::copy(places::root().join("tests/vscode/probe").join(name), extension.join(name))?;
        }
        std::os::unix::fs::symlink(modules.canonicalize()?, extension.join("node_modules"))?;
        let settings = json!({
            "files.autoSave": "off", "chat.disableAIFeatures": true, "workbench.startupEditor": "none",
            "security.workspace.trust.enabled": false, "telemetry.telemetryLevel": "off",
        });
        fs::create_dir_all(sandbox.home().join("ud/User"))?;
        fs::write(sandbox.home().join("ud/User/settings.json"), settings.to_string())?;
        fs::write(sandbox.home().join("config/code-server.yaml"), "")?;
        Ok(Desk { sandbox, project, modules: modules.to_path_buf() })
    }

    fn command(&self, arguments: &[&std::ffi::OsStr], env: &[(&str, String)]) -> Result<Child> {
        let log = fs::File::create(self.sandbox.home().join("vscode.log"))?;
        let mut command = Command::new(places::tool("node")?);
        command.args(arguments).envs(self.sandbox.env());
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        Ok(command.spawn()?)
    }

    /// Starts VS Code with a language server of this command, and returns what its user saw.
    async fn see(&self, server: &[&str]) -> Result<Json> {
        let home = self.sandbox.home();
        let (out, file) = (home.join("out.json"), self.project.join("shop/order.py"));
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let text = |path: &Path| path.display().to_string();
        let probe = [
            ("PROBE_COMMAND", json!(server).to_string()),
            ("PROBE_FILE", text(&file)),
            ("PROBE_OUT", text(&out)),
            ("PROBE_LANGUAGE", "python".to_owned()),
            ("PROBE_WORD", "parse_item".to_owned()),
            ("PROBE_MEMBER", "line.split".to_owned()),
            ("PROBE_LINE", "    return Item(name, float(price), int(quantity))".to_owned()),
        ];
        let entry = self.modules.join("code-server/out/node/entry.js");
        let address = format!("127.0.0.1:{port}");
        let (config, data, ext) =
            (home.join("config/code-server.yaml"), home.join("ud"), home.join("ext"));
        let _server = self.command(
            &[
                entry.as_os_str(),
                "--config".as_ref(),
                config.as_os_str(),
                "--user-data-dir".as_ref(),
                data.as_os_str(),
                "--extensions-dir".as_ref(),
                ext.as_os_str(),
                "--auth".as_ref(),
                "none".as_ref(),
                "--bind-addr".as_ref(),
                address.as_ref(),
                "--disable-telemetry".as_ref(),
                "--disable-update-check".as_ref(),
                "--disable-workspace-trust".as_ref(),
                "--disable-getting-started-override".as_ref(),
                self.project.as_os_str(),
            ],
            &probe,
        )?;
        self.wait_for(port).await?;
        let page = format!("http://{address}/?folder={}", self.project.display());
        let drive = places::root().join("tests/vscode/drive.mjs");
        let shot = home.join("shot.png");
        let env = [
            ("PLAYWRIGHT", text(&self.modules.join("playwright-core/package.json"))),
            ("CHROMIUM", text(&chromium().context("no Chromium")?)),
        ];
        let mut browser = self.command(
            &[drive.as_os_str(), page.as_ref(), out.as_os_str(), shot.as_os_str()],
            &env,
        )?;
        let _ended = tokio::time::timeout(PATIENCE, browser.wait()).await.context("no end")??;
        if let Some(folder) = std::env::var_os("DEMOLISH_SHOTS") {
            let name = if server.len() > 2 { "vscode-through.png" } else { "vscode-direct.png" };
            let _ = fs::copy(&shot, Path::new(&folder).join(name));
        }
        let seen = fs::read_to_string(&out).with_context(|| {
            format!(
                "VS Code said: {}",
                fs::read_to_string(home.join("vscode.log")).unwrap_or_default()
            )
        })?;
        let seen = seen.replace(&text(home), "HOME");
        Ok(serde_json::from_str(&seen)?)
    }

    async fn wait_for(&self, port: u16) -> Result<()> {
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("code-server does not listen")
    }
}

#[tokio::test]
async fn vscode_sees_the_same_through_the_proxy_as_without() -> Result<()> {
    let Some(()) = slow("vscode_sees_the_same_through_the_proxy_as_without") else { return Ok(()) };
    let Some(modules) = installed() else { return Ok(()) };
    let ty = places::tool("ty")?.display().to_string();
    let demolish = places::demolish()?.display().to_string();
    let direct = Desk::new(&modules)?.see(&[&ty, "server"]).await?;
    let desk = Desk::new(&modules)?;
    let through = desk.see(&[&demolish, "lsp", "--", &ty, "server"]).await?;
    assert!(!desk.sandbox.find(&["demolish", "daemon"]).is_empty(), "a daemon stood between");
    assert_eq!(through, direct);
    assert_eq!(direct["diagnostics"][0]["code"], "invalid-argument-type", "{direct}");
    assert!(direct["hover"][0].as_str().is_some_and(|hover| hover.contains("def parse_item")));
    let offered = direct["completion"].as_array().context("a list")?;
    assert!(offered.contains(&json!("splitlines")), "{offered:?}");
    assert_eq!(direct["rename"][0][1].as_array().map(Vec::len), Some(2), "{direct}");
    assert_eq!(direct["after"], direct["diagnostics"]);
    Ok(())
}
