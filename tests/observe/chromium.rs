//! A real Chromium without a window, driven over its debugging pipe: JSON messages that end in a NUL,
//! on file descriptors 3 and 4 (Chrome DevTools Protocol, `--remote-debugging-pipe`).

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::PATIENCE;

/// A host name that leads here, and that no browser takes for its own machine.
pub const ALIAS: &str = "cache.lan";

/// One browser with one page. Dropped, it ends.
pub struct Chromium {
    process: Child,
    to: File,
    from: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    /// Everything that was told without being asked for.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Chromium {
    /// With an empty page of this width, in points, and colours as wished.
    pub fn open(width: u32, scheme: &str) -> Self {
        let profile = TempDir::with_prefix("narwharf-chromium-").expect("a temporary folder");
        let (to, from) = (profile.path().join("to"), profile.path().join("from"));
        for pipe in [&to, &from] {
            let made = Command::new("mkfifo").arg(pipe).status().expect("mkfifo");
            assert!(made.success());
        }
        // The shell lays the two pipes where Chromium looks for them.
        let process = Command::new("sh")
            .arg("-c")
            .arg(
                "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
                 --no-first-run --disable-background-networking --disable-component-update \
                 --disable-sync --hide-scrollbars --host-resolver-rules=\"MAP $3 127.0.0.1\" \
                 --user-data-dir=\"$0/profile\" --remote-debugging-pipe about:blank \
                 3<\"$1\" 4>\"$2\" 2>\"$0/log\" >&2",
            )
            .args([profile.path(), &to, &from, Path::new(ALIAS)])
            .spawn()
            .expect("a shell");
        let to = OpenOptions::new()
            .write(true)
            .open(to)
            .expect("the pipe to it");
        let from = BufReader::new(File::open(from).expect("the pipe from it"));
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for message in from.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            process,
            to,
            from: receiver,
            calls: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        browser.open_page(width, scheme);
        browser
    }

    fn open_page(&mut self, width: u32, scheme: &str) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = self.call(
            "Target.attachToTarget",
            json!({ "targetId": target["targetId"], "flatten": true }),
        );
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        let screen =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
        let allowed = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        self.call("Browser.grantPermissions", allowed);
    }

    /// Goes to an address, and waits until the page is complete.
    pub fn go(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", json!({ "url": url }));
        self.until_event("Page.loadEventFired");
    }

    /// Lets pages do without scripts.
    pub fn disable_scripts(&mut self) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": true }),
        );
    }

    /// What an expression is worth in the page, promises kept.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page, which looks at it each time that it draws.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let patience = PATIENCE.as_millis();
        let came = self.evaluate(&format!(
            "new Promise((resolve, reject) => {{ \
             const late = performance.now() + {patience}; \
             const look = () => {{ try {{ \
             if ({expression}) resolve(true); \
             else if (performance.now() > late) resolve(false); \
             else requestAnimationFrame(look); }} catch (error) {{ reject(error); }} }}; \
             look(); }})"
        ));
        assert_eq!(came, true, "never true: {expression}");
    }

    /// A click with the mouse in the middle of the element.
    pub fn click(&mut self, selector: &str) {
        let place = self.evaluate(&format!(
            "(() => {{ const element = document.querySelector({selector:?}); element.scrollIntoView(); \
             const at = element.getBoundingClientRect(); \
             return [at.x + at.width / 2, at.y + at.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// A picture of the whole page.
    pub fn photograph(&mut self, file: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let clip =
            json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let asked = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.call("Page.captureScreenshot", asked);
        let picture = BASE64.decode(picture["data"].as_str().expect("a picture").as_bytes());
        fs::write(file, picture.expect("base64")).expect("a file");
    }

    /// Errors and warnings of the page so far: exceptions, and what went to the console.
    pub fn complaints(&self) -> Vec<String> {
        let complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events
            .iter()
            .filter(complaint)
            .map(Value::to_string)
            .collect()
    }

    /// Every address the page asked for.
    pub fn requests(&self) -> Vec<String> {
        let sent = self
            .events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = sent.filter_map(|event| event["params"]["request"]["url"].as_str());
        urls.map(str::to_owned).collect()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = self
            .session
            .as_ref()
            .filter(|_| !method.starts_with("Browser."))
        {
            message["sessionId"] = session.clone().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to
            .write_all(&bytes)
            .expect("chromium: tests/prepare installs it");
        loop {
            let mut message = self.next();
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    fn until_event(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let message = self.next();
            self.events.push(message);
        }
    }

    fn next(&mut self) -> Value {
        self.from
            .recv_timeout(2 * PATIENCE)
            .expect("a word from Chromium")
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its profile goes with it, so it has nothing to save.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
