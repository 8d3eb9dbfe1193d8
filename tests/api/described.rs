//! `openapi.json` against the running service: every route answers its own example as documented, and `/docs` shows it.

use super::schema::{faults, resolve};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use verdict_tests::{Answer, Service, now_ms, rfc3339, until};

/// The document, the service that it describes, and what has been answered so far.
struct Api {
    service: Service,
    document: Value,
    /// Good answers by operation.
    answered: BTreeMap<String, Value>,
}

/// One operation.
#[derive(Clone)]
struct Operation {
    path: String,
    method: String,
    described: Value,
}

impl Operation {
    fn id(&self) -> &str {
        self.described["operationId"].as_str().expect("every operation has an id")
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Api {
    fn start() -> Self {
        let service = Service::start();
        let document = service.get("/openapi.json").json();
        Self { service, document, answered: BTreeMap::new() }
    }

    fn operations(&self) -> Vec<Operation> {
        let paths = self.document["paths"].as_object().unwrap();
        let methods = |(path, item): (&String, &Value)| {
            let item = item.as_object().unwrap().clone();
            let operation = |(method, described): (String, Value)| Operation {
                path: path.clone(),
                method: method.to_uppercase(),
                described,
            };
            item.into_iter().map(operation).collect::<Vec<_>>()
        };
        paths.iter().flat_map(methods).collect()
    }

    /// The media type and content of a request's body, if it has one.
    fn request_content(&self, operation: &Operation) -> Option<(String, Value)> {
        let body = resolve(&self.document, operation.described.get("requestBody")?);
        let (kind, content) = body["content"].as_object().unwrap().iter().next().expect("a media type");
        Some((kind.clone(), content.clone()))
    }

    /// Sends an operation's example once, the examples that its links need before it.
    fn send(&mut self, operation: &Operation) {
        if self.answered.contains_key(operation.id()) {
            return;
        }
        let path = self.path_of(operation);
        let success = resolve(&self.document, self.success_of(operation).1);
        if success["content"].get("text/event-stream").is_some() {
            self.open_stream(operation, &path);
            return;
        }
        let content = self.request_content(operation);
        let body =
            content.as_ref().map(|(_, content)| current(&content["example"], operation.id())).unwrap_or_default();
        let kind = content.as_ref().map(|(kind, _)| ("content-type", kind.as_str()));
        let headers: Vec<_> = kind.into_iter().collect();
        let answer = self.service.request(&operation.method, &path, &headers, &body);
        assert!((200..300).contains(&answer.status), "{} {body}: {} {}", operation.name(), answer.status, answer.body);
        let value = self.check(operation, &answer);
        self.answered.insert(operation.id().to_owned(), value);
    }

    /// The documented success and its status.
    fn success_of<'o>(&self, operation: &'o Operation) -> (&'o String, &'o Value) {
        let responses = operation.described["responses"].as_object().unwrap();
        let found = responses.iter().find(|(status, _)| status.starts_with('2'));
        found.unwrap_or_else(|| panic!("{} documents no success", operation.name()))
    }

    /// A stream begins and stays open; only its head is read.
    fn open_stream(&self, operation: &Operation, path: &str) {
        let mut connection = self.service.connect();
        write!(connection, "{} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n", operation.method).unwrap();
        let head: Vec<String> =
            BufReader::new(connection).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        assert!(head[0].starts_with("HTTP/1.1 200"), "{}: {head:?}", operation.name());
        assert!(head.iter().any(|line| line.to_ascii_lowercase().starts_with("content-type: text/event-stream")));
    }

    /// The path with its parameters: from an answer that links here, else the parameter's example.
    fn path_of(&mut self, operation: &Operation) -> String {
        let mut path = operation.path.clone();
        let mut query = Vec::new();
        let parameters = operation.described["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in parameters {
            let parameter = resolve(&self.document, &parameter).clone();
            let name = parameter["name"].as_str().unwrap();
            let example = parameter.get("example").cloned();
            match parameter["in"].as_str().unwrap() {
                "path" => {
                    let value = self.linked(operation, name).or(example).map(|value| text(&value));
                    let value = value.unwrap_or_else(|| {
                        panic!("{}: the parameter {name} has neither an example nor a link", operation.name())
                    });
                    path = path.replace(&format!("{{{name}}}"), &value);
                }
                "query" => query.extend(example.map(|value| format!("{name}={}", text(&value)))),
                other => assert_eq!(other, "header", "{}: {name}", operation.name()),
            }
        }
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }

    /// The value of a parameter that a link from another operation's answer gives.
    fn linked(&mut self, operation: &Operation, name: &str) -> Option<Value> {
        let mut sources = Vec::new();
        for source in self.operations() {
            for response in source.described["responses"].as_object().unwrap().values() {
                let links = resolve(&self.document, response)["links"].as_object().cloned().unwrap_or_default();
                let here = links.values().find(|link| link["operationId"] == operation.id()).cloned();
                sources.extend(here.and_then(|link| Some((source.clone(), link["parameters"].get(name)?.clone()))));
            }
        }
        let (source, expression) = sources.into_iter().next()?;
        let pointer =
            expression.as_str().unwrap().strip_prefix("$response.body#").expect("a pointer into the body").to_owned();
        // What a link looks for may come a moment later: alerts follow their decisions.
        Some(until("a value to follow the link with", || {
            self.send(&source);
            let found = self.answered[source.id()].pointer(&pointer).cloned();
            if found.is_none() {
                self.answered.remove(source.id());
            }
            found
        }))
    }

    /// Holds an answer against what is documented for its status; gives its body, where that is JSON.
    #[track_caller]
    fn check(&self, operation: &Operation, answer: &Answer) -> Value {
        let name = operation.name();
        let documented = operation.described["responses"].get(answer.status.to_string());
        let documented =
            documented.unwrap_or_else(|| panic!("{name}: {} is not documented: {}", answer.status, answer.body));
        let response = resolve(&self.document, documented);
        let empty = Map::new();
        let contents = response["content"].as_object().unwrap_or(&empty);
        let kind = answer.header("content-type").split(';').next().unwrap_or_default().trim();
        let Some(content) = contents.get(kind) else {
            assert!(
                contents.is_empty() && answer.body.is_empty(),
                "{name}: {kind:?} is not documented: {}",
                answer.body
            );
            return Value::Null;
        };
        for (header, described) in response["headers"].as_object().unwrap_or(&empty) {
            let value = answer.header(header);
            let integer = described["schema"]["type"] == "integer";
            assert!(!value.is_empty() && (!integer || value.parse::<u32>().is_ok()), "{name}: {header}: {value:?}");
        }
        let value = if kind.ends_with("json") && kind != "application/x-ndjson" {
            answer.json()
        } else {
            answer.body.clone().into()
        };
        let found = faults(&self.document, &content["schema"], &value);
        assert!(found.is_empty(), "{name} {}: {found:?} in {value}", answer.status);
        value
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An example with its latest event happening now and ids that nobody has used, as the page makes it.
fn current(example: &Value, mark: &str) -> String {
    let lines: Vec<Value> = match example.as_str() {
        Some(lines) => lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        None => vec![example.clone()],
    };
    let at = |value: &Value| {
        value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_millisecond)
    };
    let latest = lines.iter().filter_map(|line| at(&line["timestamp"])).max();
    let fresh = |mut line: Value| {
        for (key, value) in line.as_object_mut().unwrap() {
            if let Some(ms) = at(value) {
                let moved = latest.map_or(now_ms() + 86_400_000, |latest| ms - latest + now_ms());
                *value = rfc3339(moved).into();
            } else if ["transaction_id", "login_id"].contains(&key.as_str()) {
                *value = format!("{}-{mark}", value.as_str().unwrap()).into();
            }
        }
        line.to_string()
    };
    lines.into_iter().map(fresh).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_example_is_answered_as_documented() {
    let mut api = Api::start();
    // What makes something first, what takes it away last.
    let mut operations = api.operations();
    operations.sort_by_key(|operation| match operation.method.as_str() {
        "POST" | "PUT" => 0,
        "DELETE" => 2,
        _ => 1,
    });
    assert!(operations.len() >= 14, "found {} operations", operations.len());
    for operation in &operations {
        api.send(operation);
    }
    assert_eq!(api.answered["decide"]["decision"], "review", "the example shows a decision with a reason");
    let described = api.answered["events"].as_str().unwrap();
    for line in described.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let schema = if line.get("login_id").is_some() { "AcceptedLogin" } else { "Decision" };
        let found = faults(&api.document, &api.document["components"]["schemas"][schema], &line);
        assert!(found.is_empty(), "{found:?} in {line}");
    }
}

#[test]
fn examples_fit_their_schemas() {
    let api = Api::start();
    let check =
        |name: &str, content: &Value| {
            for example in content.get("example").into_iter().chain(
                content["examples"].as_object().into_iter().flat_map(|map| map.values().map(|one| &one["value"])),
            ) {
                let found = faults(&api.document, &content["schema"], example);
                assert!(found.is_empty(), "{name}: {found:?}");
            }
        };
    for operation in api.operations() {
        let name = operation.name();
        if let Some((_, content)) = api.request_content(&operation) {
            assert!(content.get("example").is_some(), "{name} has no example");
            check(&name, &content);
        }
        for response in operation.described["responses"].as_object().unwrap().values() {
            let response = resolve(&api.document, response);
            response["content"].as_object().into_iter().flatten().for_each(|(_, content)| check(&name, content));
        }
    }
    for (name, schema) in api.document["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            let found = faults(&api.document, schema, example);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }
}

#[test]
fn refusals_are_answered_as_documented() {
    let mut api = Api::start();
    // An alert to review: a path that leads nowhere would be refused as such.
    let decide = api.operations().into_iter().find(|operation| operation.id() == "decide").expect("the operation");
    api.send(&decide);
    for operation in api.operations() {
        let Some((kind, _)) = api.request_content(&operation) else { continue };
        let path = api.path_of(&operation);
        let ask = |kind: &str, body: &str| {
            let answer = api.service.request(&operation.method, &path, &[("content-type", kind)], body);
            let value = api.check(&operation, &answer);
            (answer.status, value)
        };
        assert_eq!(ask("text/plain", "{}").0, 415, "{}", operation.name());
        assert_eq!(ask(&kind, &" ".repeat(16 * 1024 * 1024 + 1)).0, 413, "{}", operation.name());
        if kind == "application/json" {
            assert_eq!(ask(&kind, "{").0, 400, "{}", operation.name());
            assert_eq!(ask(&kind, "[]").0, 422, "{}", operation.name());
            let (status, problem) = ask(&kind, "{\"timestamp\": 7, \"expires_at\": 7, \"status\": 7}");
            assert_eq!(status, 422, "{}", operation.name());
            assert!(!problem["errors"].as_array().unwrap().is_empty(), "{problem}");
        }
    }
}

#[test]
fn the_page_comes_from_the_service_and_names_no_other_host() {
    let service = Service::start();
    let page = service.get("/docs");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    // What the page asks for is there, with a type that browsers take under nosniff.
    let quoted: Vec<&str> = page.body.split('"').filter(|part| part.starts_with('/')).collect();
    assert_eq!(quoted, ["/docs/page.css", "/docs/page.js", "/openapi.json", "/openapi.json"]);
    for (path, kind) in
        [("/docs/page.css", "text/css; charset=utf-8"), ("/docs/page.js", "text/javascript; charset=utf-8")]
    {
        let asset = service.get(path);
        assert_eq!(
            (asset.status, asset.header("content-type"), asset.header("content-security-policy")),
            (200, kind, policy)
        );
        assert!(!asset.body.contains("://") && !asset.body.contains("\"//"), "{path} names a host");
    }
}
