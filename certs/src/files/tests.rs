//! The files on disk: modes, races, and everything that must not be overwritten.

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

const PROFILE: CaProfile<'_> = CaProfile {
    common_name: "test",
    only: None,
};

struct Place {
    _dir: tempfile::TempDir,
    folder: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// Two paths in a folder that does not exist yet.
fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    Place {
        cert: folder.join("ca.pem"),
        key: folder.join("ca.key"),
        folder,
        _dir: dir,
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

fn start(place: &Place) -> Result<(Authority, Origin), FilesError> {
    load_or_create(&place.cert, &place.key, &PROFILE, now())
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn makes_an_authority_once_and_loads_it_then() {
    let place = place();
    let (made, origin) = start(&place).unwrap();
    assert_eq!(origin, Origin::Created);
    let (loaded, origin) = start(&place).unwrap();
    assert_eq!(origin, Origin::Loaded);
    assert_eq!(made.fingerprint(), loaded.fingerprint());
    let names: HashSet<_> = fs::read_dir(&place.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        names,
        HashSet::from(["ca.pem".into(), "ca.key".into()]),
        "nothing is left behind"
    );
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_key() {
    let place = place();
    start(&place).unwrap();
    assert_eq!(mode(&place.key), 0o600);
    assert_eq!(mode(&place.folder), 0o700);
}

#[cfg(unix)]
#[test]
fn refuses_a_key_that_others_can_read_and_names_the_cure() {
    let place = place();
    start(&place).unwrap();
    for exposed in [0o640, 0o604, 0o660, 0o644] {
        chmod(&place.key, exposed);
        let error = start(&place).unwrap_err().to_string();
        assert!(error.contains(&format!("mode 0{exposed:o}")), "{error}");
        assert!(
            error.contains(&format!("chmod 600 {}", place.key.display())),
            "{error}"
        );
    }
    chmod(&place.key, 0o400);
    assert!(start(&place).is_ok());
}

#[test]
fn half_a_pair_is_an_error_and_stays_as_it_is() {
    for keep_key in [true, false] {
        let place = place();
        start(&place).unwrap();
        let (kept, gone) = if keep_key {
            (&place.key, &place.cert)
        } else {
            (&place.cert, &place.key)
        };
        fs::remove_file(gone).unwrap();
        let before = fs::read(kept).unwrap();
        match start(&place).unwrap_err() {
            FilesError::Incomplete { found, missing } => assert_eq!((&found, &missing), (kept, gone)),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(kept).unwrap(), before);
        assert!(!gone.exists());
    }
}

#[test]
fn create_never_overwrites() {
    let place = place();
    create(&place.cert, &place.key, &PROFILE, now()).unwrap();
    let before = (fs::read(&place.cert).unwrap(), fs::read(&place.key).unwrap());
    let refused = create(&place.cert, &place.key, &PROFILE, now());
    assert!(matches!(refused, Err(FilesError::Exists { .. })));
    fs::remove_file(&place.key).unwrap();
    assert!(matches!(
        create(&place.cert, &place.key, &PROFILE, now()),
        Err(FilesError::Exists { .. })
    ));
    assert_eq!(fs::read(&place.cert).unwrap(), before.0);
    assert!(!place.key.exists());
}

#[test]
fn a_certificate_that_cannot_be_placed_takes_its_key_back() {
    let place = place();
    let under_a_file = place.folder.join("ca.key").join("ca.pem");
    assert!(create(&under_a_file, &place.key, &PROFILE, now()).is_err());
    assert!(!place.key.is_file());
}

#[test]
fn one_path_for_both_is_refused() {
    let place = place();
    let refused = create(&place.key, &place.key, &PROFILE, now());
    assert!(matches!(refused, Err(FilesError::SamePath { .. })));
    assert!(!place.key.exists());
}

#[test]
fn racing_creators_agree_on_one_pair() {
    let place = place();
    let barrier = Barrier::new(8);
    let results: Vec<_> = thread::scope(|scope| {
        let racer = || {
            barrier.wait();
            let (authority, origin) = start(&place).unwrap();
            (authority.fingerprint(), origin)
        };
        let racers: Vec<_> = (0..8).map(|_| scope.spawn(racer)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let fingerprints: HashSet<_> = results
        .iter()
        .map(|(fingerprint, _)| fingerprint.clone())
        .collect();
    assert_eq!(
        fingerprints,
        HashSet::from([load(&place.cert, &place.key, now()).unwrap().fingerprint()])
    );
    assert_eq!(
        results
            .iter()
            .filter(|(_, origin)| *origin == Origin::Created)
            .count(),
        1
    );
}

#[test]
fn refuses_files_of_absurd_size() {
    let place = place();
    start(&place).unwrap();
    fs::write(&place.cert, vec![b'a'; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(start(&place), Err(FilesError::TooLarge { .. })));
}

#[test]
fn an_unusable_pair_says_why() {
    let (one, other) = (place(), place());
    start(&one).unwrap();
    start(&other).unwrap();
    fs::copy(&other.cert, &one.cert).unwrap();
    let error = start(&one).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("does not belong"));
    assert!(!format!("{error:?}").contains("PRIVATE"));
}

#[test]
fn a_missing_file_is_named() {
    let place = place();
    let error = load(&place.cert, &place.key, now()).unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
}
