//! A real browser, headless Chromium, driven over `WebDriver`: opens pages, asks them what they
//! show, and tells what it complained of. Needs Debian's chromium and chromium-driver.

mod axe;
mod command;
mod driver;
mod gate;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use command::Command;
use driver::Driver;
use fantoccini::{Client, ClientBuilder};
pub use gate::Gate;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Between two looks at a page.
const TICK: Duration = Duration::from_millis(50);

/// A browser with one tab; both are gone when it is dropped.
pub struct Browser {
    client: Option<Client>,
    runtime: Runtime,
    _driver: Driver,
    _profile: TempDir,
}

impl Browser {
    /// Starts one with a new profile.
    pub fn start() -> Result<Self> {
        let profile = TempDir::with_prefix("flow-browser-")?;
        let driver = Driver::start(profile.path())?;
        let folder = profile.path().join("profile");
        let arguments = [
            "--headless=new",
            // Tests run as root, which Chromium's sandbox does not allow.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--force-device-scale-factor=1",
            "--window-size=1440,900",
            &format!("--user-data-dir={}", folder.display()),
        ];
        let wanted = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(wanted) = wanted else { bail!("an object was made") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted);
        let client = runtime.block_on(builder.connect(driver.url()));
        let client = client.with_context(|| format!("no browser:\n{}", driver.log()))?;
        Ok(Self { client: Some(client), runtime, _driver: driver, _profile: profile })
    }

    fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("the browser is open")
    }

    /// Loads a page; returns when the browser says that it is loaded.
    pub fn open(&self, url: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client()?.goto(url))?)
    }

    /// Runs the body of a function in the page; returns what it returns.
    pub fn run(&self, script: &str) -> Result<Value> {
        Ok(self.runtime.block_on(self.client()?.execute(script, Vec::new()))?)
    }

    /// Waits until such a function returns something that is true.
    pub fn wait(&self, script: &str, limit: Duration) -> Result<Value> {
        let started = Instant::now();
        loop {
            let answer = self.run(script)?;
            if !matches!(answer, Value::Null | Value::Bool(false)) {
                return Ok(answer);
            }
            if started.elapsed() > limit {
                let complaints = self.complaints()?.join("\n");
                bail!("not so within {limit:?}: {script}\nthe browser says:\n{complaints}");
            }
            self.runtime.block_on(async { tokio::time::sleep(TICK).await });
        }
    }

    /// Types into the element that has the focus.
    pub fn type_text(&self, text: &str) -> Result<()> {
        let client = self.client()?;
        let typed = async { client.active_element().await?.send_keys(text).await };
        Ok(self.runtime.block_on(typed)?)
    }

    /// A command of the `DevTools` protocol.
    pub fn devtools(&self, name: &str, parameters: Value) -> Result<Value> {
        let body = json!({ "cmd": name, "params": parameters });
        self.command("goog/cdp/execute", body).with_context(|| name.to_owned())
    }

    fn command(&self, path: &'static str, body: Value) -> Result<Value> {
        let asked = self.client()?.issue_cmd(Command { path, body });
        Ok(self.runtime.block_on(asked)?)
    }

    /// What the browser's console said since the last call: errors of scripts, requests that
    /// failed, and what a policy forbade are there.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let said = self.command("se/log", json!({ "type": "browser" }))?;
        let said = said.as_array().context("a list")?;
        Ok(said.iter().map(|line| format!("{}: {}", line["level"], line["message"])).collect())
    }

    /// Shows pages so wide from now on, light or dark as the system is said to be.
    pub fn look(&self, width: u32, height: u32, dark: bool) -> Result<()> {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)?;
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features)?;
        Ok(())
    }

    /// Writes a picture of the whole page, PNG.
    pub fn picture(&self, path: &Path) -> Result<()> {
        let size = self.devtools("Page.getLayoutMetrics", json!({}))?;
        let size = &size["cssContentSize"];
        let clip = json!({
            "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1,
        });
        let wanted = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.devtools("Page.captureScreenshot", wanted)?;
        let picture = STANDARD.decode(picture["data"].as_str().context("a picture")?)?;
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        Ok(std::fs::write(path, picture)?)
    }

    /// What axe-core finds wrong with the page, for people who do not see or use a mouse: each
    /// rule with the elements that break it.
    pub fn violations(&self) -> Result<Vec<String>> {
        axe::violations(self)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // It is gone with its driver, if not before.
            let _ = self.runtime.block_on(client.close());
        }
    }
}
