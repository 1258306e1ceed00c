//! Every fuzz target on its corpus and on what is bent of it, always the same; `FLOW_FUZZ_INPUTS`
//! says how many for each. `cargo xtask fuzz` searches for more, guided by coverage.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flow_tests::fuzz::{TARGETS, Target, corpus, mutated};
use flow_tests::setting;
use flow_tests::wild::Dice;

fn runs(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).expect("there is one");
    let inputs = corpus(target).expect("the corpus can be read");
    assert!(inputs.len() > 5, "a corpus of {} inputs", inputs.len());
    for input in &inputs {
        check(target, input);
    }
    let mut dice = Dice::new(7);
    for _ in 0..setting("FLOW_FUZZ_INPUTS", 1_000) {
        check(target, &mutated(&mut dice, &inputs, target.most_octets));
    }
}

/// Runs one, and keeps it if it fails.
fn check(target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let kept = std::env::temp_dir().join(format!("flow-fuzz-{}", target.name));
        let written = std::fs::write(&kept, input);
        eprintln!(
            "{} fails on {} octets, kept in {} ({written:?}); \
             `cargo xtask fuzz {} --input FILE` runs them again",
            target.name,
            input.len(),
            kept.display(),
            target.name
        );
        std::panic::resume_unwind(panic);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            runs(stringify!($name));
        })*

        #[test]
        fn each_target_is_run() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(parser capture spool config status store answers state block);

#[test]
fn the_corpus_is_small() {
    let files = TARGETS.into_iter().flat_map(|target| corpus(target).expect("it can be read"));
    let octets: usize = files.map(|file| file.len()).sum();
    assert!(octets < 600 << 10, "{octets} octets, seeds included");
}

/// A target that found nothing wrong in anything would find nothing wrong.
#[test]
fn a_reader_that_believes_too_much_is_caught() {
    fn gullible(octets: &[u8]) {
        let length = usize::from(octets.get(2).copied().unwrap_or(0));
        assert!(length <= 60 || octets.len() > length, "it reads beyond the end");
    }
    let target = TARGETS.into_iter().find(|target| target.name == "parser").expect("there is one");
    let inputs = corpus(target).expect("the corpus can be read");
    let mut dice = Dice::new(7);
    let caught = (0..5_000).any(|_| {
        let input = mutated(&mut dice, &inputs, 512);
        catch_unwind(|| gullible(&input)).is_err()
    });
    assert!(caught);
}
