//! Keys that were given out elsewhere, known by their SHA-256: how a file of them is read.
//!
//! JSON lines or CSV, one key a line. A file is taken whole or not at all, and every problem is told
//! with its line. The hash itself is not kept: what is stored is its HMAC under the [`Pepper`], so
//! that a stolen database cannot be searched for keys that people chose.
//!
//! [`Pepper`]: crate::Pepper

use std::collections::HashMap;
use std::fmt;

use enforcer_model::{Prefix, Role, Thumbprint, Timestamp};
use ring::digest;
use serde::Deserialize;

use super::error::StoreError;
use super::index::ApiKeys;
use super::new::NewKey;
use super::record::{Environment, KeyRecord, SecretForm, SecretRecord};
use super::rows::{self, StoredKey};
use super::schema;
use super::store::{KeyStore, free_id};

/// How a file of keys is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    /// A header line that names the columns; lists have `;` between their elements.
    Csv,
    /// A JSON object on each line.
    JsonLines,
}

/// A key of a file, not yet in the store.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportedKey {
    /// Where it stands, from one.
    pub line: usize,
    /// SHA-256 of the whole credential.
    pub hash: [u8; digest::SHA256_OUTPUT_LEN],
    /// Everything else.
    pub new: NewKey,
}

/// What a file holds, and everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFile {
    /// The keys of the lines that are well-formed.
    pub keys: Vec<ImportedKey>,
    /// What is wrong with the others.
    pub problems: Vec<ImportProblem>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportProblem {
    /// Which, from one.
    pub line: usize,
    /// What.
    pub what: String,
}

/// Keys in one file.
pub const IMPORT_MAX: usize = 10_000;

/// A key as a line says it. Lists may be one text with `;` or blanks between.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Row {
    hash: String,
    name: String,
    owner: Option<String>,
    application: Option<String>,
    roles: List,
    scopes: List,
    routes: List,
    networks: List,
    certificate: Option<String>,
    not_before: Option<String>,
    expires: Option<String>,
    limits: List,
    notes: Option<String>,
    environment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum List {
    Many(Vec<String>),
    One(String),
}

const COLUMNS: [&str; 14] = [
    "hash",
    "name",
    "owner",
    "application",
    "roles",
    "scopes",
    "routes",
    "networks",
    "certificate",
    "not_before",
    "expires",
    "limits",
    "notes",
    "environment",
];

/// Reads a file of keys, [`IMPORT_MAX`] of them at most.
pub fn read_import(text: &str, format: ImportFormat, now: Timestamp) -> ImportFile {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    let mut take = |line, row: Result<Row, String>| match row.and_then(|row| row.key(line, now)) {
        Ok(key) => keys.push(key),
        Err(what) => problems.push(ImportProblem { line, what }),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().zip(1..).filter(|(text, _)| !text.trim().is_empty());
    match format {
        ImportFormat::JsonLines => lines.by_ref().take(IMPORT_MAX).for_each(|(text, line)| {
            take(line, serde_json::from_str(text).map_err(|error| error.to_string()));
        }),
        ImportFormat::Csv => match lines.next().map(|(text, line)| (header(text), line)) {
            None => {}
            // Without its columns, nothing can be said of any line.
            Some((Err(what), line)) => {
                return ImportFile { keys, problems: vec![ImportProblem { line, what }] };
            }
            Some((Ok(columns), _)) => lines.by_ref().take(IMPORT_MAX).for_each(|(text, line)| {
                take(line, Row::from_csv(text, &columns));
            }),
        },
    }
    if let Some((_, line)) = lines.next() {
        let what = format!("more than {IMPORT_MAX} keys in one file; split it");
        problems.push(ImportProblem { line, what });
    }
    problems.extend(repeated(&keys));
    if problems.is_empty() && keys.is_empty() {
        problems.push(ImportProblem { line: 1, what: "there is no key in the file".to_owned() });
    }
    problems.sort_by_key(|problem| problem.line);
    ImportFile { keys, problems }
}

impl ImportFile {
    /// The keys, if nothing is wrong with any line.
    pub fn whole(self) -> Result<Vec<ImportedKey>, Vec<ImportProblem>> {
        if self.problems.is_empty() { Ok(self.keys) } else { Err(self.problems) }
    }
}

impl Row {
    fn from_csv(text: &str, columns: &[&str]) -> Result<Self, String> {
        let fields = fields(text)?;
        if fields.len() != columns.len() {
            let (found, wanted) = (fields.len(), columns.len());
            return Err(format!("{found} fields, and the header has {wanted}"));
        }
        let mut row = Self::default();
        for (column, field) in columns.iter().zip(fields) {
            let field = field.trim().to_owned();
            if field.is_empty() {
                continue;
            }
            match *column {
                "hash" => row.hash = field,
                "name" => row.name = field,
                "owner" => row.owner = Some(field),
                "application" => row.application = Some(field),
                "roles" => row.roles = List::One(field),
                "scopes" => row.scopes = List::One(field),
                "routes" => row.routes = List::One(field),
                "networks" => row.networks = List::One(field),
                "certificate" => row.certificate = Some(field),
                "not_before" => row.not_before = Some(field),
                "expires" => row.expires = Some(field),
                "limits" => row.limits = List::One(field),
                "notes" => row.notes = Some(field),
                _ => row.environment = Some(field),
            }
        }
        Ok(row)
    }

    fn key(self, line: usize, now: Timestamp) -> Result<ImportedKey, String> {
        let hash = hash(&self.hash)?;
        let time = |text: Option<String>| -> Result<Option<Timestamp>, String> {
            text.map(|text| text.parse::<Timestamp>().map_err(|error| error.to_string()))
                .transpose()
        };
        let networks = self.networks.into_words().map(|network| network.parse::<Prefix>());
        let certificate = self.certificate.map(|print| print.parse::<Thumbprint>()).transpose();
        let environment = self.environment.map(|text| text.parse::<Environment>()).transpose();
        let new = NewKey {
            name: self.name,
            owner: self.owner,
            application: self.application,
            roles: self.roles.into_words().map(|role| Role::new(&role)).collect(),
            scopes: self.scopes.into_words().collect(),
            routes: self.routes.into_words().collect(),
            networks: networks.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            certificate: certificate.map_err(|error| error.to_string())?,
            not_before: time(self.not_before)?,
            expires: time(self.expires)?,
            limits: self.limits.into_words().collect(),
            notes: self.notes.unwrap_or_default(),
            environment: environment.map_err(|error| error.to_string())?.unwrap_or_default(),
        };
        new.check(now).map_err(|error| error.to_string())?;
        Ok(ImportedKey { line, hash, new })
    }
}

impl List {
    fn into_words(self) -> impl Iterator<Item = String> {
        let (many, one) = match self {
            Self::Many(many) => (many, String::new()),
            Self::One(one) => (Vec::new(), one),
        };
        let split = |c: char| c == ';' || c.is_whitespace();
        let one: Vec<_> =
            one.split(split).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        many.into_iter().chain(one)
    }
}

impl Default for List {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// SHA-256 in hexadecimal, as `sha256sum` prints it.
fn hash(text: &str) -> Result<[u8; 32], String> {
    let wrong = || {
        "`hash` is not a SHA-256: write 64 hexadecimal digits, as `printf %s \"$KEY\" | sha256sum` \
         prints them"
            .to_owned()
    };
    let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else { return Err(wrong()) };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    let bytes: Vec<u8> = bytes.collect::<Option<_>>().ok_or_else(wrong)?;
    bytes.try_into().map_err(|_length| wrong())
}

/// The columns of a CSV file, in their order.
fn header(text: &str) -> Result<Vec<&'static str>, String> {
    let mut columns = Vec::new();
    for field in fields(text)? {
        let name = field.trim().to_ascii_lowercase();
        let Some(column) = COLUMNS.iter().find(|column| **column == name) else {
            let (name, all) = (name.escape_debug(), COLUMNS.join(", "));
            return Err(format!("no column is called `{name}`; the header may name: {all}"));
        };
        if columns.contains(column) {
            return Err(format!("the column `{column}` is there twice"));
        }
        columns.push(*column);
    }
    for needed in ["hash", "name", "roles"] {
        if !columns.contains(&needed) {
            return Err(format!("the header names no column `{needed}`"));
        }
    }
    Ok(columns)
}

/// The fields of one line (RFC 4180); a field does not go on in the next line.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let is_empty = fields.last().is_none_or(String::is_empty);
        match (c, quoted) {
            ('"', true) if characters.next_if_eq(&'"').is_none() => {
                quoted = false;
                if characters.peek().is_some_and(|next| *next != ',') {
                    return Err("text behind a closing quote".to_owned());
                }
            }
            ('"', false) if is_empty => quoted = true,
            ('"', false) => return Err("a quote inside a field without quotes".to_owned()),
            (',', false) => fields.push(String::new()),
            (c, _) => fields.iter_mut().next_back().into_iter().for_each(|field| field.push(c)),
        }
    }
    if quoted { Err("a quote that does not end on its line".to_owned()) } else { Ok(fields) }
}

/// Names and hashes that an earlier line has already.
fn repeated(keys: &[ImportedKey]) -> Vec<ImportProblem> {
    let (mut names, mut hashes) = (HashMap::new(), HashMap::new());
    let mut problems = Vec::new();
    for ImportedKey { line, hash, new } in keys {
        let line = *line;
        if let Some(first) = names.insert(new.name.as_str(), line) {
            let what = format!("the name `{}` is on line {first} already", new.name);
            problems.push(ImportProblem { line, what });
        }
        if let Some(first) = hashes.insert(hash, line) {
            problems
                .push(ImportProblem { line, what: format!("the hash is on line {first} already") });
        }
    }
    problems
}

impl KeyStore {
    /// What would keep these keys from being imported, by line.
    pub fn check_import(&self, keys: &[ImportedKey]) -> Result<Vec<ImportProblem>, StoreError> {
        if self.index.len().saturating_add(keys.len()) > Self::KEYS_MAX {
            return Err(StoreError::Full { max: Self::KEYS_MAX });
        }
        let mut problems = Vec::new();
        for key in keys {
            let line = key.line;
            let taken = rows::is_taken(&self.connection, &key.new.name);
            if taken.map_err(|error| schema::failed("read", &self.path, error))? {
                let what = format!("there is a key `{}` already", key.new.name);
                problems.push(ImportProblem { line, what });
            }
            if self.index.knows_hash(&key.hash) {
                let what = "a key with this hash is there already".to_owned();
                problems.push(ImportProblem { line, what });
            }
        }
        Ok(problems)
    }

    /// Makes all of these keys, or none.
    pub fn import(
        &mut self,
        keys: Vec<ImportedKey>,
        now: Timestamp,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        if self.index.len().saturating_add(keys.len()) > Self::KEYS_MAX {
            return Err(StoreError::Full { max: Self::KEYS_MAX });
        }
        let (index, random) = (self.index.clone(), self.random.clone());
        let stored = self.write(|transaction, path| {
            let mut all = Vec::with_capacity(keys.len());
            for ImportedKey { hash, new, .. } in keys {
                let id = free_id(transaction, path, &random)?;
                let stored = imported(new.into_record(id, now)?, &hash, &index)?;
                if rows::is_taken(transaction, &stored.record.name)
                    .map_err(|error| schema::failed("write", path, error))?
                {
                    return Err(StoreError::NameTaken(stored.record.name));
                }
                rows::insert(transaction, &stored)
                    .map_err(|error| schema::failed("write", path, error))?;
                all.push(stored);
            }
            Ok(all)
        })?;
        self.index.put(&stored);
        Ok(stored.into_iter().map(|key| key.record).collect())
    }
}

fn imported(
    mut record: KeyRecord,
    hash: &[u8; 32],
    index: &ApiKeys,
) -> Result<StoredKey, StoreError> {
    let version = index.pepper().current();
    let mac = index.pepper().mac(version, hash).ok_or(StoreError::Random)?;
    record.secrets.push(SecretRecord {
        number: 1,
        form: SecretForm::Imported,
        prefix: index.prefix(),
        pepper: version.0,
        created: record.created,
        ends: None,
        used: None,
    });
    Ok(StoredKey { record, macs: vec![mac] })
}

impl fmt::Display for ImportProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// The hash of a key that a person chose is nearly the key.
impl fmt::Debug for ImportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImportedKey(line {}, {:?}, …)", self.line, self.new.name)
    }
}
