//! The snippets of `docs/delivery.md`, each run where its language is on this machine, with every test vector: good
//! requests are good to them, and bad ones bad.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// One request, a key, and what must become of it.
struct Case {
    name: String,
    /// Key, id, timestamp, signatures (`-` for none) and the receiver's time, separated by tabs.
    line: String,
    body: String,
    good: bool,
    symmetric: bool,
}

fn cases() -> anyhow::Result<Vec<Case>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../schemas/vectors/standard-webhooks.json"
    );
    let vectors: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut cases = Vec::new();
    for (list, keys, now, good) in [
        ("accepted", "secrets", "timestamp", true),
        ("asymmetric", "public_keys", "timestamp", true),
        ("refused", "keys", "now", false),
    ] {
        for vector in vectors[list].as_array().context(list)? {
            let text = |field: &str| vector[field].as_str().context("a text");
            for key in vector[keys].as_array().context("keys")? {
                let key = key.as_str().context("a key")?;
                let signature = match text("signature")? {
                    "" => "-",
                    signature => signature,
                };
                let (timestamp, now) = (&vector["timestamp"], &vector[now]);
                cases.push(Case {
                    name: text("name")?.to_owned(),
                    line: format!("{key}\t{}\t{timestamp}\t{signature}\t{now}", text("id")?),
                    body: text("body")?.to_owned(),
                    good,
                    symmetric: key.starts_with("whsec_"),
                });
            }
        }
    }
    Ok(cases)
}

/// A language: how its code is marked in the page, what runs it, and what reads the cases and tells of each on a line
/// of its own whether the snippet finds it `good` or `bad`.
struct Language {
    mark: &'static str,
    programs: &'static [&'static str],
    file: &'static str,
    /// The snippet goes where `SNIPPET` stands.
    program: &'static str,
    /// Whether the snippet knows ed25519.
    asymmetric: bool,
}

const LANGUAGES: &[Language] = &[
    Language {
        mark: "python",
        programs: &["python3"],
        file: "verify.py",
        program: r#"SNIPPET
for number, line in enumerate(open("cases.tsv", encoding="utf-8")):
    key, id, timestamp, signature, at = line.rstrip("\n").split("\t")
    headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": "" if signature == "-" else signature}
    body = open(f"body{number}", "rb").read()
    print("good" if verify(key, headers, body, int(at)) else "bad")
"#,
        asymmetric: false,
    },
    Language {
        mark: "js",
        programs: &["node"],
        file: "verify.cjs",
        program: r#"SNIPPET
const fs = require("node:fs");
fs.readFileSync("cases.tsv", "utf8").trimEnd().split("\n").forEach((line, number) => {
  const [key, id, timestamp, signature, at] = line.split("\t");
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature === "-" ? "" : signature };
  console.log(verify(key, headers, fs.readFileSync(`body${number}`), Number(at)) ? "good" : "bad");
});
"#,
        asymmetric: true,
    },
    Language {
        mark: "java",
        programs: &["javac", "java"],
        file: "Webhooks.java",
        program: r#"SNIPPET
class Run {
    public static void main(String[] arguments) throws Exception {
        int number = 0;
        for (String line : java.nio.file.Files.readAllLines(java.nio.file.Path.of("cases.tsv"))) {
            String[] of = line.split("\t");
            byte[] body = java.nio.file.Files.readAllBytes(java.nio.file.Path.of("body" + number++));
            String given = of[3].equals("-") ? "" : of[3];
            System.out.println(Webhooks.verify(of[0], of[1], of[2], given, body, Long.parseLong(of[4])) ? "good" : "bad");
        }
    }
}
"#,
        asymmetric: true,
    },
    Language {
        mark: "sh",
        programs: &["sh", "openssl"],
        file: "verify.sh",
        program: r#"SNIPPET
number=0
while IFS='	' read -r secret id timestamp signature at; do
  [ "$signature" = - ] && signature=
  if verify "$secret" "$id" "$timestamp" "$signature" "body$number" "$at"; then echo good; else echo bad; fi
  number=$((number + 1))
done < cases.tsv
"#,
        asymmetric: false,
    },
];

impl Language {
    fn is_here(&self) -> bool {
        let here = |program: &&str| {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&paths).any(|path| path.join(program).is_file())
        };
        self.programs.iter().all(here)
    }

    /// The code of this language in the page's section on verifying.
    fn snippet<'p>(&self, page: &'p str) -> anyhow::Result<&'p str> {
        let (_, section) = page
            .split_once("\n## Verify a webhook\n")
            .context("the section")?;
        let mark = format!("\n```{}\n", self.mark);
        let (_, rest) = section
            .split_once(&mark)
            .with_context(|| format!("a snippet of {}", self.mark))?;
        let (snippet, _) = rest.split_once("\n```\n").context("its end")?;
        Ok(snippet)
    }

    /// What the snippet says of each case.
    fn judge(&self, snippet: &str, cases: &[&Case]) -> anyhow::Result<Vec<bool>> {
        let folder = tempfile::tempdir()?;
        let place = folder.path();
        write_cases(place, cases)?;
        std::fs::write(place.join(self.file), self.program.replace("SNIPPET", snippet))?;
        let told = match self.mark {
            "java" => {
                run(place, "javac", &["-encoding", "UTF-8", self.file])?;
                run(place, "java", &["-cp", ".", "Run"])?
            }
            _ => run(place, self.programs[0], &[self.file])?,
        };
        let judge = |line: &str| match line {
            "good" => Ok(true),
            "bad" => Ok(false),
            other => anyhow::bail!("{}: {other}", self.mark),
        };
        told.lines().map(judge).collect()
    }
}

fn write_cases(place: &Path, cases: &[&Case]) -> anyhow::Result<()> {
    let mut lines = String::new();
    for (number, case) in cases.iter().enumerate() {
        writeln!(lines, "{}", case.line)?;
        std::fs::write(place.join(format!("body{number}")), &case.body)?;
    }
    std::fs::write(place.join("cases.tsv"), lines)?;
    Ok(())
}

fn run(place: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(place)
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_documented_snippets_judge_every_vector_rightly() -> anyhow::Result<()> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/delivery.md"))?;
    let cases = cases()?;
    ensure!(
        cases.iter().filter(|case| !case.good).count() >= 15,
        "few bad cases"
    );
    let mut ran = Vec::new();
    for language in LANGUAGES {
        let snippet = language.snippet(&page)?;
        if !language.is_here() {
            continue;
        }
        let cases: Vec<_> = cases
            .iter()
            .filter(|case| case.symmetric || language.asymmetric)
            .collect();
        let judged = language.judge(snippet, &cases)?;
        ensure!(judged.len() == cases.len(), "{} lost some", language.mark);
        for (case, good) in cases.iter().zip(judged) {
            assert_eq!(good, case.good, "{}, with {}", case.name, language.mark);
        }
        ran.push(format!("{} ({} requests)", language.mark, cases.len()));
    }
    println!("ran: {}", ran.join(", "));
    ensure!(ran.len() >= 2, "only {ran:?} could be run on this machine");
    Ok(())
}

/// The Python library, at the time of the receiver.
const LIBRARY: &str = r#"
import datetime, standardwebhooks.webhooks as library

class Frozen(datetime.datetime):
    at = 0
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(cls.at, tz)

library.datetime = Frozen
for number, line in enumerate(open("cases.tsv", encoding="utf-8")):
    key, id, timestamp, signature, at = line.rstrip("\n").split("\t")
    headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": "" if signature == "-" else signature}
    Frozen.at = int(at)
    try:
        library.Webhook(key).verify(open(f"body{number}", "rb").read(), headers, json_parse=False)
        print("good")
    except Exception:
        print("bad")
"#;

/// Other people's code agrees with the file: it knows the symmetric scheme only.
#[test]
fn the_libraries_judge_every_symmetric_vector_rightly() -> anyhow::Result<()> {
    let cases = cases()?;
    let symmetric: Vec<_> = cases.iter().filter(|case| case.symmetric).collect();
    let python = tests::tools::python()?;
    let place = tempfile::tempdir()?;
    write_cases(place.path(), &symmetric)?;
    let told = run(place.path(), python.to_str().context("a path")?, &["-c", LIBRARY])?;
    let judged: Vec<_> = told.lines().map(|line| line == "good").collect();
    let expected: Vec<_> = symmetric.iter().map(|case| case.good).collect();
    assert_eq!(judged, expected);
    for case in symmetric {
        let parts: Vec<_> = case.line.split('\t').collect();
        let [key, id, timestamp, given, now] = parts[..] else {
            anyhow::bail!("{}: {}", case.name, case.line);
        };
        let (time, now): (i64, i64) = (timestamp.parse()?, now.parse()?);
        // The crate knows no other time than the present: what it would sign, and how far the time is off, is what it
        // verifies by.
        let signature = standardwebhooks::Webhook::new(key)?.sign(id, time, case.body.as_bytes())?;
        let good = given.split(' ').any(|one| one == signature) && time.abs_diff(now) <= 300;
        assert_eq!(good, case.good, "{}", case.name);
    }
    Ok(())
}
