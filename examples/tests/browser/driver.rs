//! The part of WebDriver that the tests need, over the available HTTP client.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// The key of element ids in the protocol.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// A browser. Dropping it ends the processes that it started.
pub(crate) struct Driver {
    http: reqwest::Client,
    session: String,
    _driver: Child,
    _profile: tempfile::TempDir,
}

fn find(names: &[&str]) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let files = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}

impl Driver {
    /// Starts a browser. Returns `None` if there is none on this machine.
    pub(crate) async fn start() -> Option<Self> {
        let chromedriver = find(&["chromedriver"])?;
        let chromium = find(&["chromium", "chromium-browser", "google-chrome"])?;
        let mut driver = Command::new(chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("chromedriver ended at once");
            if let Some((_, rest)) = line.split_once("successfully on port ") {
                break rest.trim_end_matches('.').to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().unwrap();
        let http =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--force-device-scale-factor=1",
            &data,
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": chromium, "args": arguments },
        } } });
        let base = format!("http://127.0.0.1:{port}/session");
        let response = send(http.post(&base).body_json(&capabilities)).await.unwrap();
        let id = response["sessionId"].as_str().unwrap();
        let session = format!("{base}/{id}");
        Some(Self { http, session, _driver: driver, _profile: profile })
    }

    pub(crate) async fn stop(self) {
        send(self.http.delete(&self.session)).await.unwrap();
    }

    async fn try_post(&self, path: &str, body: Value) -> Result<Value, Value> {
        send(self.http.post(format!("{}/{path}", self.session)).body_json(&body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.try_post(path, body).await.unwrap()
    }

    /// Sets the size of the page, which can be smaller than a window.
    pub(crate) async fn resize(&self, (width, height): (u32, u32)) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
        self.post("goog/cdp/execute", command).await;
    }

    pub(crate) async fn open(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    pub(crate) async fn script(&self, script: &str) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": [] })).await
    }

    async fn element(&self, selector: &str) -> Option<String> {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self.try_post("element", by).await.ok()?;
        Some(found[ELEMENT].as_str().unwrap().to_owned())
    }

    /// Waits until an element exists, and returns its id.
    pub(crate) async fn wait_for(&self, selector: &str) -> String {
        let found = async {
            loop {
                if let Some(element) = self.element(selector).await {
                    return element;
                }
                tokio::task::yield_now().await;
            }
        };
        let Ok(element) = tokio::time::timeout(WAIT_TIMEOUT, found).await else {
            let shown = "return location.href + ': ' + document.body.innerText";
            let shown = self.try_post("execute/sync", json!({ "script": shown, "args": [] })).await;
            panic!("no `{selector}` on the page {shown:?}")
        };
        element
    }

    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.wait_for(selector).await;
        if !text.is_empty() {
            self.post(&format!("element/{element}/value"), json!({ "text": text })).await;
        }
    }

    pub(crate) async fn clear(&self, selector: &str) {
        let element = self.wait_for(selector).await;
        self.post(&format!("element/{element}/clear"), json!({})).await;
    }

    /// Clicks on an element once it is at rest.
    ///
    /// A page that is being updated moves its content, and the browser's driver clicks at a place.
    /// A click that meets another element is therefore cancelled, and repeated.
    pub(crate) async fn click(&self, selector: &str) {
        let prepare = "const [element, done] = arguments; \
            element.scrollIntoView({ block: 'center', behavior: 'instant' }); \
            const place = () => JSON.stringify(element.getBoundingClientRect()); \
            const before = place(); \
            removeEventListener('click', window.onlyThere, true); \
            window.missed = false; \
            window.onlyThere = event => { \
                removeEventListener('click', window.onlyThere, true); \
                if (element.contains(event.target)) return; \
                window.missed = true; \
                event.preventDefault(); \
                event.stopImmediatePropagation(); \
            }; \
            addEventListener('click', window.onlyThere, true); \
            requestAnimationFrame(() => requestAnimationFrame(() => done( \
                element.isConnected && place() === before)))";
        let missed = json!({ "script": "return window.missed", "args": [] });
        let clicked = async {
            loop {
                let element = self.wait_for(selector).await;
                let arguments = json!({ "script": prepare, "args": [{ ELEMENT: element }] });
                // An error means that the element or the page was replaced since.
                if self.try_post("execute/async", arguments).await == Ok(json!(true))
                    && self.try_post(&format!("element/{element}/click"), json!({})).await.is_ok()
                    && self.try_post("execute/sync", missed.clone()).await != Ok(json!(true))
                {
                    return;
                }
            }
        };
        let clicked = tokio::time::timeout(WAIT_TIMEOUT, clicked).await;
        clicked.unwrap_or_else(|_| panic!("`{selector}` does not come to rest"));
    }

    /// Clicks on a link to another page, and waits until this page is gone. Otherwise an element
    /// that both pages have would be found on the old one.
    pub(crate) async fn follow(&self, selector: &str) {
        self.script("window.left = false").await;
        self.click(selector).await;
        let left = async {
            while self
                .try_post("execute/sync", json!({ "script": "return window.left", "args": [] }))
                .await
                == Ok(json!(false))
            {
                tokio::task::yield_now().await;
            }
        };
        let left = tokio::time::timeout(WAIT_TIMEOUT, left).await;
        left.unwrap_or_else(|_| panic!("`{selector}` does not lead to another page"));
    }

    /// Presses one key, at the current focus.
    pub(crate) async fn press(&self, key: char) {
        let presses = ["keyDown", "keyUp"].map(|what| json!({ "type": what, "value": key }));
        let keys = json!({ "type": "key", "id": "keyboard", "actions": presses });
        self.post("actions", json!({ "actions": [keys] })).await;
    }

    /// Moves the focus to an element with the Tab key, like a user without a mouse.
    pub(crate) async fn tab_to(&self, selector: &str) {
        self.wait_for(selector).await;
        let there = format!("return document.activeElement.matches({})", json!(selector));
        for _ in 0..60 {
            self.press('\u{e004}').await;
            if self.script(&there).await == json!(true) {
                return;
            }
        }
        panic!("no Tab leads to `{selector}`");
    }

    /// Returns the current window.
    pub(crate) async fn window(&self) -> String {
        let window = send(self.http.get(format!("{}/window", self.session))).await.unwrap();
        window.as_str().unwrap().to_owned()
    }

    /// Opens another tab, and switches to it.
    pub(crate) async fn new_tab(&self) {
        let new = self.post("window/new", json!({ "type": "tab" })).await;
        self.switch_to(new["handle"].as_str().unwrap()).await;
    }

    pub(crate) async fn switch_to(&self, window: &str) {
        self.post("window", json!({ "handle": window })).await;
    }

    /// Closes the tab, and switches to another one.
    pub(crate) async fn close_tab(&self, back_to: &str) {
        send(self.http.delete(format!("{}/window", self.session))).await.unwrap();
        self.switch_to(back_to).await;
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        let element = self.wait_for(selector).await;
        let url = format!("{}/element/{element}/text", self.session);
        send(self.http.get(url)).await.unwrap().as_str().unwrap().to_owned()
    }

    pub(crate) async fn count(&self, selector: &str) -> usize {
        let by = json!({ "using": "css selector", "value": selector });
        self.post("elements", by).await.as_array().unwrap().len()
    }

    /// Returns the name of the focused field.
    pub(crate) async fn active_name(&self) -> String {
        let name = self.script("return document.activeElement.name || ''").await;
        name.as_str().unwrap().to_owned()
    }

    /// Returns whether the page fits the width of the window.
    pub(crate) async fn fits(&self) -> bool {
        let script = "return document.documentElement.scrollWidth <= window.innerWidth";
        self.script(script).await == json!(true)
    }

    /// Deletes all cookies, like a new browser.
    pub(crate) async fn forget_cookies(&self) {
        let command = json!({ "cmd": "Network.clearBrowserCookies", "params": {} });
        self.post("goog/cdp/execute", command).await;
    }

    /// Returns the violations that axe-core (given as its script) finds on the page: each rule with
    /// the elements.
    pub(crate) async fn violations(&self, axe: &str) -> Vec<String> {
        self.script(axe).await;
        let script = "const done = arguments[arguments.length - 1]; \
            axe.run().then(found => done(found.violations.map(rule => \
                rule.id + ': ' + rule.nodes.map(node => node.html).join(' | '))))";
        let found = self.post("execute/async", json!({ "script": script, "args": [] })).await;
        let found = found.as_array().unwrap().iter();
        found.map(|rule| rule.as_str().unwrap().to_owned()).collect()
    }

    /// Takes a screenshot of the whole page, including the part outside of the window.
    pub(crate) async fn screenshot(&self, file: &Path) {
        assert!(self.fits().await, "{}: wider than the window", file.display());
        let command = json!({
            "cmd": "Page.captureScreenshot",
            "params": { "format": "png", "captureBeyondViewport": true },
        });
        let image = self.post("goog/cdp/execute", command).await;
        let image = BASE64_STANDARD.decode(image["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, image).unwrap();
    }
}

async fn send(request: reqwest::RequestBuilder) -> Result<Value, Value> {
    let response = request.send().await.unwrap();
    let good = response.status().is_success();
    let mut response: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let value = response["value"].take();
    if good { Ok(value) } else { Err(value) }
}

/// A JSON body; the client is built without its own support for it.
trait BodyJson {
    fn body_json(self, value: &Value) -> Self;
}

impl BodyJson for reqwest::RequestBuilder {
    fn body_json(self, value: &Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }
}
