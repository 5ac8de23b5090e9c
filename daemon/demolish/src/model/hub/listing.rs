//! What a repository on a hub holds.

use hyper::StatusCode;
use serde_json::Value as Json;

use super::checksum::Expected;
use super::http::{Answer, Client};
use super::{Trouble, names};

/// The most files of a repository.
const FILES_MAX: usize = 20_000;

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// The commit that the revision is at; what was asked for, where the hub does not say.
    pub(super) commit: String,
    /// The files that are wanted.
    pub(super) files: Vec<Remote>,
}

/// A file on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) name: String,
    pub(super) bytes: Option<u64>,
    pub(super) expected: Option<Expected>,
}

/// Asks what a repository holds at a revision, and chooses.
pub(super) async fn list(
    client: &Client,
    repo: &str,
    revision: &str,
    include: &[String],
) -> Result<Listing, Trouble> {
    let url = client.hub().below(&format!("/api/models/{repo}/revision/{revision}"));
    let answer = client.get(&url.asking("blobs=true"), &[]).await?;
    let place = format!("{repo}@{revision} on {}", client.hub());
    if let Some(trouble) = refusal(&answer, &place) {
        return Err(trouble);
    }
    let text = answer.text().await?;
    let json: Json = serde_json::from_slice(&text).map_err(|error| {
        let hint = "is `model.hub_url` the address of a hub?";
        Trouble::Refused(format!("{place}: the answer is no listing ({error}); {hint}"))
    })?;
    read(&json, revision, include).map_err(|why| Trouble::Refused(format!("{place}: {why}")))
}

/// Why an answer is none.
pub(super) fn refusal(answer: &Answer, place: &str) -> Option<Trouble> {
    let code = answer.hub_header("x-error-code").unwrap_or_default();
    let token = "put a token that may read it into DEMOLISH_HUB_TOKEN";
    let refused = |why: String| Some(Trouble::Refused(format!("{place}: {why}")));
    match (answer.status, code) {
        (status, _) if status.is_success() => None,
        (StatusCode::NOT_FOUND, "RevisionNotFound") => {
            refused("there is no such revision".to_owned())
        }
        (StatusCode::NOT_FOUND, "EntryNotFound") => refused("there is no such file".to_owned()),
        (StatusCode::NOT_FOUND, _) | (StatusCode::UNAUTHORIZED, "RepoNotFound") => {
            refused(format!(
                "there is no such repository or revision; look at the spelling, and if it is private, {token}"
            ))
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, "GatedRepo") => refused(format!(
            "its terms have to be accepted on the hub's page of it first; then {token}"
        )),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            refused(format!("the hub does not let us ({}); {token}", answer.status))
        }
        (status, _)
            if status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT =>
        {
            Some(Trouble::Passing(format!("{place}: {status}")))
        }
        (status, _) => refused(format!("the hub answers {status}")),
    }
}

fn read(json: &Json, revision: &str, include: &[String]) -> Result<Listing, String> {
    let siblings = json["siblings"].as_array().ok_or("the listing has no files")?;
    if siblings.len() > FILES_MAX {
        return Err(format!("{} files are more than {FILES_MAX}", siblings.len()));
    }
    let files: Vec<Remote> = siblings.iter().filter_map(remote).collect();
    if let Some(file) = files.iter().find(|file| names::is_hostile(&file.name)) {
        return Err(format!(
            "the file name {:?} leads out of the folder; nothing is taken from a hub that says so",
            file.name
        ));
    }
    let all: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let wanted = names::wanted(&all, include);
    let has = |end: &str| wanted.iter().any(|name| name.ends_with(end));
    if wanted.is_empty() || include.is_empty() && !(has("config.json") && has(".safetensors")) {
        return Err(missing(&all, include));
    }
    if let Some((name, why)) = wanted.iter().find_map(|name| Some((name, names::trouble(name)?))) {
        return Err(format!("the file name {name:?} is not written: {why}"));
    }
    let mut files: Vec<Remote> =
        files.iter().filter(|file| wanted.contains(&file.name.as_str())).cloned().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|a, b| a.name == b.name);
    let mut sizes = files.iter().filter_map(|file| file.bytes);
    if sizes.try_fold(0_u64, u64::checked_add).is_none() {
        return Err("the sizes of its files are more than there are bytes anywhere".to_owned());
    }
    let commit = json["sha"].as_str().filter(|sha| is_word(sha)).unwrap_or(revision).to_owned();
    Ok(Listing { commit, files })
}

/// What can stand in a path as it is.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn missing(all: &[&str], include: &[String]) -> String {
    let has_pickles = all.iter().any(|name| names::is_pickle(name));
    if !include.is_empty() {
        let pickles = if has_pickles { " (pickles are never taken)" } else { "" };
        return format!("of its {} files none fits {}{pickles}", all.len(), include.join(" or "));
    }
    let instead = if all.iter().any(|name| name.ends_with(".gguf")) {
        "; it has GGUF files, which this engine does not read: look for the same model in safetensors"
    } else if has_pickles {
        "; its weights are pickles, which run what they hold when they are loaded: look for safetensors"
    } else {
        ""
    };
    format!("it has no config.json with *.safetensors{instead}")
}

fn remote(json: &Json) -> Option<Remote> {
    let name = json["rfilename"].as_str()?.to_owned();
    let lfs = &json["lfs"];
    let sum = lfs["sha256"].as_str().or(lfs["oid"].as_str()).and_then(Expected::of_etag);
    let blob = json["blobId"].as_str().filter(|_| lfs.is_null()).and_then(Expected::of_etag);
    let bytes = lfs["size"].as_u64().or(json["size"].as_u64());
    Some(Remote { name, bytes, expected: sum.or(blob) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn listings_are_read_and_hostile_ones_refused() {
        let (sum, blob) = ("ab".repeat(32), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
        let json = json!({"sha": "c0ffee", "siblings": [
            {"rfilename": "config.json", "size": 5, "blobId": blob},
            {"rfilename": "model.safetensors", "size": 9, "lfs": {"sha256": sum, "size": 9}},
            {"rfilename": "pytorch_model.bin", "size": 9},
        ]});
        let listing = read(&json, "main", &[]).unwrap();
        assert_eq!(listing.commit, "c0ffee");
        let expected: Vec<_> =
            listing.files.iter().filter_map(|file| file.expected.clone()).collect();
        assert_eq!(expected, [Expected::GitBlob(blob.to_owned()), Expected::Sha256(sum)]);

        let with = |name: &str| {
            let mut json = json.clone();
            json["siblings"].as_array_mut().unwrap().push(json!({"rfilename": name}));
            read(&json, "main", &[])
        };
        assert!(with("../../.bashrc").unwrap_err().contains("leads out of the folder"));
        assert!(with("/etc/x").unwrap_err().contains("leads out of the folder"));
        assert!(with("tokenizer\u{7}.json").unwrap_err().contains("not written"));
        assert!(with("docs/aux.txt").is_ok(), "what is not wanted does no harm");
        let gguf = json!({"siblings": [{"rfilename": "m.gguf"}]});
        assert!(read(&gguf, "main", &[]).unwrap_err().contains("GGUF"));
        let pickles = json!({"siblings": [{"rfilename": "config.json"}, {"rfilename": "m.bin"}]});
        assert!(read(&pickles, "main", &[]).unwrap_err().contains("pickles"));
        assert!(read(&json!({}), "main", &[]).is_err());
        let endless = json!({"siblings": [
            {"rfilename": "config.json", "size": 2},
            {"rfilename": "model.safetensors", "size": u64::MAX},
        ]});
        assert!(read(&endless, "main", &[]).unwrap_err().contains("sizes of its files"));
    }
}
