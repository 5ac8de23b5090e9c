//! Pulls from a hub on this machine that does everything that hubs do wrong.

use std::fs;
use std::time::Duration;

use testkit::hub::{Faults, File, Hub};

use super::manifest::{MANIFEST_FILE, PULL_FILE, manifest, unfinished};
use super::*;

const REPO: &str = "org/tiny";
/// More than one piece of the hub.
const BIG: usize = 300_000;

fn big(seed: u8) -> Vec<u8> {
    (0..BIG).map(|index| (index * 31 % 251) as u8 ^ seed).collect()
}

fn file(bytes: Vec<u8>) -> File {
    let sha256 = checksum::sha256(&bytes[..], &mut |_| {}).unwrap();
    File { bytes, sha256: Some(sha256) }
}

fn small(text: &str) -> File {
    File { bytes: text.as_bytes().to_vec(), sha256: None }
}

fn hub() -> Hub {
    Hub::start(
        REPO,
        [
            ("config.json".to_owned(), small("{}")),
            ("tokenizer.json".to_owned(), small("{\"a\": 1}")),
            ("model-00001-of-00002.safetensors".to_owned(), file(big(1))),
            ("model-00002-of-00002.safetensors".to_owned(), file(big(2))),
            ("pytorch_model.bin".to_owned(), file(big(3))),
        ],
    )
}

struct House {
    hub: Hub,
    folder: tempfile::TempDir,
    pull: Pull,
}

impl House {
    fn new() -> House {
        let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
        let patience = Patience {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            pause: Duration::from_millis(1),
        };
        let pull = Pull {
            repo: REPO.to_owned(),
            revision: "main".to_owned(),
            hub: Url::parse(&hub.url).unwrap(),
            token: None,
            dir: folder.path().join("tiny"),
            include: Vec::new(),
            patience,
        };
        House { hub, folder, pull }
    }

    async fn pull(&self) -> Result<Pulled, Trouble> {
        pull(&self.pull, &mut |_| {}).await
    }

    /// Pulls until both large files are there in part, waits for something else, and gives up.
    async fn pull_until_held(&self, meanwhile: impl Future<Output = ()>) {
        self.pull_until_held_with(Faults::default(), meanwhile).await;
    }

    async fn pull_until_held_with(&self, faults: Faults, meanwhile: impl Future<Output = ()>) {
        const HELD: usize = 100_000;
        self.hub.fail(Faults { holds: Some(HELD), ..faults });
        let held = tokio::sync::Notify::new();
        let mut request = self.pull.clone();
        request.patience.stall = Duration::from_secs(600);
        let mut told = |note: Note<'_>| {
            if matches!(note, Note::Progress { done, .. } if done as usize > 2 * HELD) {
                held.notify_one();
            }
        };
        tokio::select! {
            pulled = pull(&request, &mut told) => panic!("it ended: {pulled:?}"),
            () = async { held.notified().await; meanwhile.await } => {}
        }
    }

    /// How many bodies were asked for, and how many of them from somewhere in the middle.
    fn asked(&self) -> (usize, usize) {
        let requests = self.hub.requests();
        let bodies = requests.iter().filter(|head| head.starts_with("GET /cdn/"));
        let ranges = bodies.clone().filter(|head| head.to_ascii_lowercase().contains("\r\nrange:"));
        (bodies.count(), ranges.count())
    }

    fn is_whole(&self) {
        let dir = &self.pull.dir;
        for (name, seed) in
            [("model-00001-of-00002.safetensors", 1), ("model-00002-of-00002.safetensors", 2)]
        {
            assert!(fs::read(dir.join(name)).unwrap() == big(seed), "{name}");
        }
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "config.json",
            MANIFEST_FILE,
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "tokenizer.json",
        ];
        assert_eq!(names, expected);
        let manifest = manifest(dir).unwrap();
        assert_eq!((manifest.repo.as_str(), manifest.files.len()), (REPO, 4));
        for held in &manifest.files {
            let bytes = fs::read(dir.join(&held.name)).unwrap();
            assert_eq!(checksum::sha256(&bytes[..], &mut |_| {}).unwrap(), held.sha256);
        }
    }
}

#[tokio::test]
async fn a_model_is_pulled_once_and_has_no_pickles() {
    let house = House::new();
    let mut notes = Vec::new();
    let pulled = pull(&house.pull, &mut |note| notes.push(format!("{note:?}"))).await.unwrap();
    assert!(!pulled.was_there && pulled.manifest.commit == "c0ffee");
    house.is_whole();
    assert!(notes[0].contains("Listed") && notes[0].contains("files: 4"), "{notes:?}");
    assert_eq!(notes.iter().filter(|note| note.starts_with("File")).count(), 4);
    assert_eq!(house.asked(), (2, 0));
    assert!(house.pull().await.unwrap().was_there);
    assert_eq!(house.asked(), (0, 0));
}

#[tokio::test]
async fn what_is_cut_off_goes_on_where_it_was() {
    let house = House::new();
    house.hub.fail(Faults { cut: Some((100_000, 3)), ..Faults::default() });
    house.pull().await.unwrap();
    house.is_whole();
    assert_eq!(house.asked(), (5, 3));
}

#[tokio::test]
async fn a_pull_that_was_dropped_is_unfinished_and_the_next_goes_on() {
    let house = House::new();
    house.pull_until_held(async {}).await;
    let state = unfinished(&house.pull.dir).unwrap();
    assert_eq!((state.repo.as_str(), manifest(&house.pull.dir)), (REPO, None));
    house.hub.fail(Faults::default());
    house.asked();
    house.pull().await.unwrap();
    house.is_whole();
    assert_eq!(house.asked(), (2, 2));
}

#[tokio::test]
async fn a_server_without_ranges_sends_the_file_again() {
    let house = House::new();
    house.hub.fail(Faults { cut: Some((100_000, 1)), ignores_ranges: true, ..Faults::default() });
    house.pull().await.unwrap();
    house.is_whole();
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_begun_again() {
    let house = House::new();
    house.hub.fail(Faults { cut: Some((100_000, 1)), changes_etags: true, ..Faults::default() });
    house.pull().await.unwrap();
    house.is_whole();
    let (bodies, ranges) = house.asked();
    assert_eq!((bodies, ranges), (3, 1), "the range was asked for and not given");
}

#[tokio::test]
async fn a_wrong_checksum_is_tried_once_more_and_then_refused() {
    let wrong = |times| Faults {
        wrong: Some(("model-00002-of-00002.safetensors".to_owned(), times)),
        ..Faults::default()
    };
    let house = House::new();
    house.hub.fail(wrong(1));
    house.pull().await.unwrap();
    house.is_whole();

    let house = House::new();
    house.hub.fail(wrong(9));
    let Err(Trouble::Wrong(said)) = house.pull().await else { panic!("it was believed") };
    assert!(said.contains("model-00002-of-00002.safetensors came with the checksum"), "{said}");
    assert!(!house.pull.dir.join("model-00002-of-00002.safetensors").exists());
    assert!(manifest(&house.pull.dir).is_none());
    house.hub.fail(Faults::default());
    house.pull().await.unwrap();
    house.is_whole();
}

#[tokio::test]
async fn checksums_come_from_the_redirection_where_the_listing_has_none() {
    let house = House::new();
    house.hub.fail(Faults {
        hides_sums: true,
        wrong: Some(("model-00001-of-00002.safetensors".to_owned(), 9)),
        ..Faults::default()
    });
    assert!(matches!(house.pull().await, Err(Trouble::Wrong(_))));
    house.hub.fail(Faults { hides_sums: true, ..Faults::default() });
    house.pull().await.unwrap();
    house.is_whole();
}

#[tokio::test]
async fn a_server_that_hangs_is_asked_again_and_given_up_in_the_end() {
    let mut house = House::new();
    house.pull.patience.stall = Duration::from_millis(300);
    house.hub.fail(Faults { hangs: 1, ..Faults::default() });
    house.pull().await.unwrap();
    house.is_whole();

    let mut house = House::new();
    house.pull.patience.stall = Duration::from_millis(20);
    house.hub.fail(Faults { hangs: 1000, ..Faults::default() });
    let Err(Trouble::Away(said)) = house.pull().await else { panic!("it was waited for") };
    assert!(said.contains("nothing came for 0.02 s; tried 6 times"), "{said}");
}

#[tokio::test]
async fn a_hub_that_says_no_is_understood() {
    for (status, code, expected) in [
        (404, "RepoNotFound", "no such repository or revision"),
        (401, "RepoNotFound", "no such repository or revision"),
        (404, "RevisionNotFound", "no such revision"),
        (403, "GatedRepo", "terms have to be accepted"),
        (401, "", "DEMOLISH_HUB_TOKEN"),
        (418, "", "answers 418"),
    ] {
        let house = House::new();
        house.hub.fail(Faults { status: Some((status, code)), ..Faults::default() });
        let Err(Trouble::Refused(said)) = house.pull().await else { panic!("{status} {code}") };
        assert!(said.contains(expected), "{said}");
        assert!(!house.pull.dir.exists());
    }
    let house = House::new();
    house.hub.fail(Faults { status: Some((503, "")), ..Faults::default() });
    let Err(Trouble::Away(said)) = house.pull().await else { panic!("503") };
    assert!(said.contains("503") && said.contains("tried 3 times"), "{said}");
}

#[tokio::test]
async fn another_commit_brings_what_changed_alone() {
    let house = House::new();
    house.pull().await.unwrap();
    house.asked();
    house.hub.change("beef", "model-00002-of-00002.safetensors", file(big(7)));
    let pulled = house.pull().await.unwrap();
    assert_eq!((pulled.was_there, pulled.manifest.commit.as_str()), (false, "beef"));
    assert_eq!(house.asked(), (1, 0));
    assert!(fs::read(house.pull.dir.join("model-00002-of-00002.safetensors")).unwrap() == big(7));
}

#[tokio::test]
async fn a_part_keeps_the_checksum_that_it_came_with() {
    let house = House::new();
    let hides = Faults { hides_sums: true, ..Faults::default() };
    house.pull_until_held_with(hides.clone(), async {}).await;
    let wrong = Some(("model-00001-of-00002.safetensors".to_owned(), 1));
    house.hub.fail(Faults { wrong, ..hides });
    house.asked();
    house.pull().await.unwrap();
    house.is_whole();
    assert_eq!(house.asked(), (3, 2), "the spoiled rest was noticed");
}

#[tokio::test]
async fn the_rest_of_another_version_is_not_put_behind_a_part() {
    let house = House::new();
    house.hub.fail(Faults {
        cut: Some((100_000, 1)),
        changes_etags: true,
        ignores_versions: true,
        ..Faults::default()
    });
    house.pull().await.unwrap();
    house.is_whole();
    assert_eq!(house.asked(), (4, 1), "begun again after the range");
}

#[tokio::test]
async fn a_file_that_never_grows_is_given_up() {
    let house = House::new();
    house.hub.fail(Faults {
        cut: Some((100_000, 1000)),
        hides_sums: true,
        hides_etags: true,
        ..Faults::default()
    });
    let Err(Trouble::Away(said)) = house.pull().await else { panic!("it was asked for again") };
    assert!(said.contains("tried 6 times") && said.contains("give the same command"), "{said}");
}

#[tokio::test]
async fn shards_that_the_hub_no_longer_has_go_away() {
    let house = House::new();
    house.pull().await.unwrap();
    let old = house.pull.dir.join("model-00002-of-00002.safetensors");
    fs::write(house.pull.dir.join("notes.txt"), "mine").unwrap();
    house.hub.change("beef", "config.json", small("{} "));
    house.hub.lose("model-00002-of-00002.safetensors");
    house.pull().await.unwrap();
    assert!(!old.exists() && house.pull.dir.join("notes.txt").exists());
    assert_eq!(manifest(&house.pull.dir).unwrap().files.len(), 3);
}

#[tokio::test]
async fn a_branch_that_moved_is_seen_without_a_commit() {
    let house = House::new();
    house.hub.fail(Faults { hides_commit: true, ..Faults::default() });
    house.pull().await.unwrap();
    assert!(house.pull().await.unwrap().was_there);
    house.hub.change("beef", "model-00002-of-00002.safetensors", file(big(7)));
    assert!(!house.pull().await.unwrap().was_there);
    assert!(fs::read(house.pull.dir.join("model-00002-of-00002.safetensors")).unwrap() == big(7));
}

#[tokio::test]
async fn what_the_user_put_beside_a_model_stays_when_it_is_removed() {
    let house = House::new();
    let held = async {
        let refused = remove(&house.pull.dir).unwrap_err();
        assert!(refused.contains("a pull writes into"), "{refused}");
    };
    house.pull_until_held(held).await;
    let notes = house.pull.dir.join("notes.txt");
    fs::write(&notes, "mine").unwrap();
    assert_eq!(remove(&house.pull.dir), Ok(1));
    assert!(notes.exists() && fs::read_dir(&house.pull.dir).unwrap().count() == 1);
    fs::remove_file(&notes).unwrap();
    house.hub.fail(Faults::default());
    house.pull().await.unwrap();
    assert_eq!(remove(&house.pull.dir), Ok(0));
    assert!(!house.pull.dir.exists());
}

#[tokio::test]
async fn folders_of_others_are_left_alone() {
    let mut house = House::new();
    fs::create_dir(&house.pull.dir).unwrap();
    fs::write(house.pull.dir.join("thesis.tex"), "x").unwrap();
    let Err(Trouble::Refused(said)) = house.pull().await else { panic!("it was written into") };
    assert!(said.contains("is not empty"), "{said}");
    house.pull.dir = house.folder.path().join("other");
    house.pull().await.unwrap();
    let path = house.pull.dir.join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).unwrap().replace(REPO, "org/other");
    fs::write(&path, text).unwrap();
    let Err(Trouble::Refused(said)) = house.pull().await else { panic!("it was written into") };
    assert!(said.contains("holds org/other"), "{said}");
    assert!(!house.pull.dir.join(PULL_FILE).exists());
}

#[tokio::test]
async fn two_pulls_into_one_folder_do_not_mix() {
    let house = House::new();
    let refused = async {
        let Err(Trouble::Away(said)) = house.pull().await else { panic!("two of them wrote") };
        assert!(said.contains("another pull writes into"), "{said}");
    };
    house.pull_until_held(refused).await;
    house.hub.fail(Faults::default());
    house.pull().await.unwrap();
    house.is_whole();
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_nobody_prints_it() {
    let mut house = House::new();
    house.pull.token = Some(Token("hf_secret".to_owned()));
    // Large files lie on another server, which has no business with the token.
    let elsewhere = hub();
    let place = Some(elsewhere.url.clone());
    house.hub.fail(Faults { elsewhere: place, ..Faults::default() });
    house.pull().await.unwrap();
    house.is_whole();
    let carries = |head: &String| head.to_ascii_lowercase().contains("authorization:");
    let (own, others) = (house.hub.requests(), elsewhere.requests());
    assert!(own[0].to_ascii_lowercase().contains("authorization: bearer hf_secret"));
    assert!(own.iter().all(carries) && !others.iter().any(carries), "{others:?}");
    assert_eq!(others.iter().filter(|head| head.starts_with("GET /cdn/")).count(), 2);
    assert!(!format!("{:?}", house.pull).contains("secret"));
    house.pull.hub = Url::parse("http://hub.test").unwrap();
    let Err(Trouble::Refused(said)) = house.pull().await else { panic!("it was sent") };
    assert!(said.contains("use https") && !said.contains("secret"), "{said}");
}
