//! Reads the sources, one setting at a time, so that every problem names the file or variable.
//!
//! Each setting is first tried alone on top of the defaults: what goes wrong then is its own fault
//! and nobody else's. Only when all are sound are they laid over each other.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use config::builder::DefaultState;
use config::{ConfigBuilder, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::error::{ConfigError, Problem};
use super::{DEFAULTS, file, known};

const PREFIX: &str = "NARWHARF";

/// What all sources said together.
pub struct Read {
    pub settings: file::Settings,
    pub given: Given,
}

/// Who said what: for each key that a file or the environment sets, the one that has the last word.
#[derive(Debug, Default)]
pub struct Given(HashMap<String, String>);

impl Given {
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A problem with `key`, laid at the door of the source that set it.
    pub fn problem(&self, key: &str, what: impl Into<String>) -> Problem {
        let source = self.0.get(key).map_or("settings", String::as_str);
        Problem::of_key(source, key, what)
    }
}

/// One setting of one source.
struct Setting {
    source: String,
    key: String,
    value: Value,
}

/// Reads `files` and `env`, and judges every setting by itself.
pub fn read(
    files: &[PathBuf],
    env: impl Iterator<Item = (String, String)>,
) -> Result<Read, ConfigError> {
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    for path in files {
        match in_file(path, &mut problems) {
            Ok(found) => settings.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    settings.extend(in_environment(env, &mut problems));
    problems.extend(settings.iter().flat_map(wrong_alone));
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }

    let mut given = Given::default();
    let mut builder = defaults();
    for Setting { source, key, value } in settings {
        builder = with(builder, &key, value);
        given.0.insert(key, source);
    }
    let settings = deserialize(builder).map_err(|what| ConfigError {
        problems: vec![Problem::of_source("settings", what)],
    })?;
    Ok(Read { settings, given })
}

/// The settings of a file whose keys exist and may stand in a file; the others become problems.
fn in_file(path: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Setting>, Problem> {
    let source = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| Problem::of_source(&source, format!("cannot be read: {error}")))?;
    let tables = File::from_str(&text, FileFormat::Toml)
        .collect()
        .map_err(|error| Problem::of_source(&source, without_excerpt(&error.to_string())))?;

    let mut settings = Vec::new();
    for (section, value) in sorted(tables) {
        match value.kind {
            ValueKind::Table(keys) if known::is_section(&section) => {
                for (key, value) in sorted(keys) {
                    let key = format!("{section}.{key}");
                    match refused_in_file(&key) {
                        Some(what) => problems.push(Problem::of_key(&source, &key, what)),
                        None => settings.push(Setting {
                            source: source.clone(),
                            key,
                            value,
                        }),
                    }
                }
            }
            _ if known::is_section(&section) => {
                let what = format!("is a section; write [{section}] and its keys below");
                problems.push(Problem::of_key(&source, &section, what));
            }
            _ => problems.extend(
                refused_in_file(&section).map(|what| Problem::of_key(&source, &section, what)),
            ),
        }
    }
    Ok(settings)
}

fn refused_in_file(key: &str) -> Option<String> {
    if known::is_not_yet(key) {
        Some(not_yet())
    } else if known::is_secret(key) {
        Some(format!(
            "is a secret and not taken from a file; set {} or {key}_file",
            variable(key)
        ))
    } else {
        known::complaint(key)
    }
}

/// Our settings in the environment: `NARWHARF_SECTION__KEY`. Others are passed over in silence,
/// since the prefix alone (`NARWHARF_HOME`) may be anybody's.
fn in_environment(
    env: impl Iterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> Vec<Setting> {
    let mut ours: Vec<(String, String)> = env
        .filter(|(name, _)| {
            name.strip_prefix(PREFIX)
                .and_then(|rest| rest.strip_prefix('_'))
                .is_some_and(|rest| rest.contains("__"))
        })
        .collect();
    ours.sort();

    let mut settings = Vec::new();
    for (name, value) in ours {
        let one = Environment::with_prefix(PREFIX)
            .prefix_separator("_")
            .separator("__")
            .source(Some(Map::from_iter([(name.clone(), value)])));
        for (key, value) in one.collect().unwrap_or_default() {
            match refused_in_environment(&key) {
                Some(what) => problems.push(Problem::of_key(&name, &key, what)),
                None => settings.push(Setting {
                    source: name.clone(),
                    key,
                    value,
                }),
            }
        }
    }
    settings
}

fn refused_in_environment(key: &str) -> Option<String> {
    if known::is_not_yet(key) {
        Some(not_yet())
    } else if key == known::TOKENS || key.starts_with(&format!("{}.", known::TOKENS)) {
        Some(
            "is a list of tables, which the environment cannot hold; write [[auth.token]] in a \
              settings file, or set NARWHARF_AUTH__UPLOAD_TOKEN"
                .to_owned(),
        )
    } else {
        known::complaint(key)
    }
}

fn not_yet() -> String {
    "not yet supported; remove it".to_owned()
}

/// The variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{PREFIX}_{}", key.replace('.', "__").to_uppercase())
}

/// What is wrong with the setting's value, whatever the others say. A list of tables is tried
/// table by table, so that each one's mistake is seen.
fn wrong_alone(setting: &Setting) -> Vec<Problem> {
    let tables = match &setting.value.kind {
        ValueKind::Array(items) if setting.key == known::TOKENS => items.clone(),
        _ => vec![],
    };
    let alone = |value| deserialize(with(defaults(), &setting.key, value)).err();
    let problem = |key: &str, what| Problem::of_key(&setting.source, key, what);
    if tables.is_empty() {
        let what = alone(setting.value.clone());
        return what
            .map(|what| problem(&setting.key, what))
            .into_iter()
            .collect();
    }
    let numbered = tables.into_iter().enumerate();
    numbered
        .filter_map(|(i, table)| {
            let what = alone(Value::new(None, ValueKind::Array(vec![table])))?;
            Some(problem(&format!("{}, table {}", setting.key, i + 1), what))
        })
        .collect()
}

fn defaults() -> ConfigBuilder<DefaultState> {
    config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml))
}

fn with(
    builder: ConfigBuilder<DefaultState>,
    key: &str,
    value: Value,
) -> ConfigBuilder<DefaultState> {
    builder
        .set_override(key, value)
        .expect("a known key is a plain path of two names")
}

fn deserialize(builder: ConfigBuilder<DefaultState>) -> Result<file::Settings, String> {
    builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(message)
}

/// The cause without the path that the crate adds: the problem has its own. Inside a table of a list
/// (`auth.token[0]scopes`) only the crate knows which key it was.
fn message(error: config::ConfigError) -> String {
    let last = |path: &str| {
        path.rsplit_once(']')
            .map(|(_, key)| key.trim_start_matches('.').to_owned())
            .filter(|key| !key.is_empty())
    };
    match error {
        config::ConfigError::At { error, key, .. } => match key.as_deref().and_then(last) {
            Some(key) => format!("{key} {}", message(*error)),
            None => message(*error),
        },
        config::ConfigError::NotFound(path) => {
            format!("{} is missing", last(&path).unwrap_or(path))
        }
        error => error.to_string(),
    }
}

/// A syntax error without the line that it quotes, which may hold a secret.
fn without_excerpt(error: &str) -> String {
    let told = error.lines().filter(|line| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        !line.is_empty() && !line.starts_with('|')
    });
    told.collect::<Vec<_>>().join(": ")
}

fn sorted(map: Map<String, Value>) -> Vec<(String, Value)> {
    let mut pairs: Vec<_> = map.into_iter().collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    pairs
}
