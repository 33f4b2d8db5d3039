use std::path::Path;

use crate::Policy;

#[test]
fn every_shipped_policy_is_valid_and_free_of_warnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies");
    let mut parsed = Vec::new();

    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&file).unwrap();
            let policy =
                Policy::parse(&text, &file).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(policy.warnings(), [], "{}", file.display());
            parsed.push(file.file_name().unwrap().to_owned());
        }
    }

    parsed.sort();
    assert_eq!(parsed, ["demo.toml", "minimal.toml"]);
}
