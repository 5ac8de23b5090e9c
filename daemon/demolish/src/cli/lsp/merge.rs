//! The command line of merged mode: which servers, and what is special about each.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::ext::MergedServer;

use super::Args;
use crate::cli::Failure;
use crate::shim::Merged;

/// What `--merge` and its companions say.
pub(super) fn read(args: &Args) -> Result<Merged, Failure> {
    let mut commands = Vec::new();
    for list in &args.merge {
        commands
            .extend(split(list).map_err(|why| Failure::bad(format!("`--merge {list}`: {why}")))?);
    }
    let names = proxy::merge::names(commands.iter().map(Vec::as_slice));
    let named = names.into_iter().zip(commands);
    let mut servers: Vec<MergedServer> = named
        .map(|(name, command)| MergedServer { name, command, ..MergedServer::default() })
        .collect();
    for option in &args.options {
        let (at, json) = of_server("--options", option, &servers)?;
        if at == 0 {
            let name = &servers[0].name;
            return Err(Failure::bad(format!(
                "`--options {name}=…`: {name} is the first server, which gets the `initializationOptions` of the editor; \
                 set them there"
            )));
        }
        servers[at].initialization_options = Some(json);
    }
    for setting in &args.settings {
        let (at, json) = of_server("--settings", setting, &servers)?;
        servers[at].settings = json;
    }
    let mut owners = BTreeMap::new();
    for owner in &args.owner {
        let pair = owner.split_once('=').map(|(feature, name)| (feature.trim(), name.trim()));
        let (feature, name) = pair.filter(|(feature, _)| !feature.is_empty()).ok_or_else(|| {
            Failure::bad(format!(
                "`--owner {owner}`: a feature and a server, as in `formatting=ruff`"
            ))
        })?;
        position("--owner", owner, name, &servers)?;
        owners.insert(feature.to_owned(), name.to_owned());
    }
    Ok(Merged { servers, owners })
}

fn of_server(
    option: &str,
    given: &str,
    servers: &[MergedServer],
) -> Result<(usize, Value), Failure> {
    let Some((name, json)) = given.split_once('=') else {
        return Err(Failure::bad(format!(
            "`{option} {given}`: a server and JSON, as in `ruff={{}}`"
        )));
    };
    let at = position(option, given, name.trim(), servers)?;
    let json = serde_json::from_str(json)
        .map_err(|error| Failure::bad(format!("`{option} {given}`: no JSON ({error})")))?;
    Ok((at, json))
}

fn position(
    option: &str,
    given: &str,
    name: &str,
    servers: &[MergedServer],
) -> Result<usize, Failure> {
    servers.iter().position(|server| server.name == name).ok_or_else(|| {
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        Failure::bad(format!("`{option} {given}`: no server `{name}` among {}", names.join(", ")))
    })
}

/// Commands with commas between, each cut into words as a shell does: quotes of both kinds and the backslash.
fn split(list: &str) -> Result<Vec<Vec<String>>, &'static str> {
    let (mut commands, mut words) = (Vec::new(), Vec::new());
    let mut word: Option<String> = None;
    let mut characters = list.chars();
    let mut end = |words: &mut Vec<String>| match std::mem::take(words) {
        empty if empty.is_empty() => Err("a command is empty"),
        words => {
            commands.push(words);
            Ok(())
        }
    };
    while let Some(character) = characters.next() {
        match character {
            ',' => {
                words.extend(word.take());
                end(&mut words)?;
            }
            quote @ ('"' | '\'') => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        None => return Err("a quote is not closed"),
                        Some(character) if character == quote => break,
                        Some('\\') if quote == '"' => word.extend(characters.next()),
                        Some(character) => word.push(character),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            space if space.is_whitespace() => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    end(&mut words)?;
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn args(merge: &[&str]) -> Args {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        Args {
            server: Vec::new(),
            merge: owned(merge),
            owner: Vec::new(),
            options: Vec::new(),
            settings: Vec::new(),
        }
    }

    #[test]
    fn commands_are_cut_as_a_shell_does() {
        let check =
            |list: &str, expected: &[&[&str]]| assert_eq!(split(list).unwrap(), expected, "{list}");
        check("ty server,ruff server", &[&["ty", "server"], &["ruff", "server"]]);
        check(" a ,  b\tc ", &[&["a"], &["b", "c"]]);
        check(r#"a "b, c" 'd "e'"f" \,"#, &[&["a", "b, c", "d \"ef", ","]]);
        check(r#"a """#, &[&["a", ""]]);
        check(r"a b\ c", &[&["a", "b c"]]);
        for bad in ["", "a,", ",a", "a,,b", "'a"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_special_about_a_server_goes_by_its_name() {
        let mut given = args(&["/bin/ty server,ruff server", "ruff x"]);
        given.owner = vec!["formatting=ruff".to_owned()];
        given.options = vec![r#"ruff={"a":1}"#.to_owned()];
        given.settings = vec![r#"ruff-2={"b":2}"#.to_owned()];
        let merged = read(&given).unwrap();
        let names: Vec<&str> = merged.servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["ty", "ruff", "ruff-2"]);
        assert_eq!(merged.servers[1].initialization_options, Some(json!({ "a": 1 })));
        assert_eq!(merged.servers[2].settings, json!({ "b": 2 }));
        assert_eq!(merged.owners["formatting"], "ruff");
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_place() {
        let check = |change: &dyn Fn(&mut Args), wanted: &str| {
            let mut given = args(&["ty server,ruff server"]);
            change(&mut given);
            let failure = read(&given).unwrap_err();
            assert_eq!(failure.exit, crate::cli::Exit::Bad);
            assert!(failure.message.contains(wanted), "{}", failure.message);
        };
        check(&|args| args.merge.push("a,".into()), "a command is empty");
        check(&|args| args.owner.push("formatting".into()), "as in `formatting=ruff`");
        check(
            &|args| args.owner.push("formatting=black".into()),
            "no server `black` among ty, ruff",
        );
        check(&|args| args.options.push("ruff={".into()), "no JSON");
        check(&|args| args.options.push("ty={}".into()), "ty is the first server");
        check(&|args| args.settings.push("ruff".into()), "a server and JSON");
    }
}
