//! `[[key]]`: TSIG keys (RFC 8945), their secrets in the file or in files of their own.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use domain::utils::base64;
use toml::de::DeValue;

use super::document::{Kind, Section, Wrong};
use super::units::{name, nearest, some_text, text};
use super::{Algorithm, Secret, TsigKey};
use crate::name::NameBuf;

pub(super) static KEY: Kind =
    Kind { title: "[[key]]", own: &["name", "algorithm", "secret", "secret-file"], shared: &[] };

/// Below this a secret can be guessed (128 bits).
const SHORT: usize = 16;

/// No file with a secret is larger, in octets.
const FILE_MAX: u64 = 4096;

pub(super) type Keys = HashMap<NameBuf, Arc<TsigKey>>;

/// Reads every `[[key]]`. One with a mistake is among them all the same, so that those who use it
/// are not reported for it.
pub(super) fn read(top: &Section<'_>) -> Keys {
    let mut keys = Keys::new();
    for section in top.tables("key", &KEY, "[[key]]").unwrap_or_default() {
        let doc = section.doc;
        if !section.has("name") {
            let advice = "write name = \"...\", the name that both sides know the key by";
            doc.error(section.at, Wrong::new("this key has no name", advice));
        }
        let algorithm = section.get("algorithm", algorithm).unwrap_or(Algorithm::Sha256);
        let secret = secret(&section);
        let Some(name) = section.get("name", name) else { continue };
        let key = Arc::new(TsigKey { name: name.clone(), algorithm, secret });
        if keys.insert(name.clone(), key).is_some() {
            let wrong =
                Wrong::new(format!("key \"{name}\" is defined twice"), "remove one of them");
            doc.error(section.place_of("name"), wrong);
        }
    }
    keys
}

/// The key that `section` names under `key`.
pub(super) fn lookup(section: &Section<'_>, keys: &Keys) -> Option<Arc<TsigKey>> {
    section.get("key", |value| {
        let name = name(value)?;
        keys.get(&name).cloned().ok_or_else(|| {
            let names: Vec<String> = keys.keys().map(ToString::to_string).collect();
            let advice = nearest(&name.to_string(), names.iter().map(String::as_str));
            let advice =
                advice.unwrap_or_else(|| format!("write a [[key]] with name = \"{name}\""));
            Wrong::new(format!("\"{name}\" is not defined"), advice)
        })
    })
}

fn algorithm(value: &DeValue<'_>) -> Result<Algorithm, Wrong> {
    let text = text(value)?;
    let plain = text.trim_end_matches('.').to_ascii_lowercase();
    let advice = match plain.as_str() {
        "hmac-sha1" => return Ok(Algorithm::Sha1),
        "hmac-sha256" => return Ok(Algorithm::Sha256),
        "hmac-sha384" => return Ok(Algorithm::Sha384),
        "hmac-sha512" => return Ok(Algorithm::Sha512),
        "hmac-md5" | "hmac-md5.sig-alg.reg.int" => {
            "MD5 is broken (RFC 8945 forbids it); write \"hmac-sha256\" and change the primary too"
        }
        "hmac-sha224" => "it is not supported; write \"hmac-sha256\" and change the primary too",
        _ => "write \"hmac-sha256\", \"hmac-sha384\", \"hmac-sha512\" or \"hmac-sha1\"",
    };
    Err(Wrong::new(format!("is \"{text}\""), advice))
}

fn secret(section: &Section<'_>) -> Secret {
    let doc = section.doc;
    let (key, secret) = match (section.has("secret"), section.has("secret-file")) {
        (true, false) => ("secret", section.get("secret", |value| decoded(text(value)?))),
        (false, true) => {
            let file = section.get("secret-file", |value| Ok(doc.path(some_text(value)?)));
            if let Some(file) = &file {
                warn_if_open(section, file);
            }
            let read = |_: &_| file.as_deref().map(secret_file).transpose();
            ("secret-file", section.get("secret-file", read).flatten())
        }
        (both, _) => {
            let (message, advice) = match both {
                true => ("both secret and secret-file", "keep one of them"),
                false => ("no secret", "write secret = \"BASE64\" or secret-file = \"PATH\""),
            };
            doc.error(section.at, Wrong::new(format!("this key has {message}"), advice));
            return Secret(Box::default());
        }
    };
    if let Some(secret) = secret.as_ref().filter(|secret| secret.len() < SHORT) {
        let message = format!("{key} has {} octets, few enough to be guessed", secret.len());
        let advice = format!("write {SHORT} at least, better 32: openssl rand -base64 32");
        doc.warn(section.place_of(key), Wrong::new(message, advice));
    }
    Secret(secret.unwrap_or_default().into())
}

/// Notes it if `file`, which is `section`'s `secret-file`, is everybody's to read.
pub(super) fn warn_if_open(section: &Section<'_>, file: &Path) {
    if fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        let advice = "take the others' permission away: chmod 600";
        let wrong = Wrong::new("secret-file can be read by every user", advice);
        section.doc.warn(section.place_of("secret-file"), wrong);
    }
}

fn secret_file(file: &Path) -> Result<Vec<u8>, Wrong> {
    decoded(secret_text(file, "the secret in base64")?.trim())
}

/// The text of a small file that should hold what `content` says.
pub(super) fn secret_text(file: &Path, content: &str) -> Result<String, Wrong> {
    let unreadable = |why: String| {
        let message = format!("\"{}\" cannot be read ({why})", file.display());
        Wrong::new(message, format!("write the path of a file that holds {content}"))
    };
    let metadata = fs::metadata(file).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        return Err(unreadable(format!("no file of at most {FILE_MAX} octets")));
    }
    fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
}

/// The octets that `text` stands for. What is wrong with a secret is told without showing it.
fn decoded(text: &str) -> Result<Vec<u8>, Wrong> {
    match base64::decode::<Vec<u8>>(text) {
        Ok(secret) if !secret.is_empty() => Ok(secret),
        Ok(_) => Err(Wrong::new("is empty", "write one in base64: openssl rand -base64 32")),
        Err(error) => {
            let message = format!("is not base64 ({error})");
            Err(Wrong::new(message, "write it as the primary has it: openssl rand -base64 32"))
        }
    }
}
