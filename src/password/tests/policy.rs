use std::time::Duration;

use rstest::rstest;

use super::super::policy::{MAX_BYTES, Policy, check_strength, words};
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::model::{ErrorKind, Result};

fn check(password: &str) -> Result<()> {
    let context = ["ada.lovelace", "ada@example.com", "Ada Lovelace"];
    check_in(password, &context)
}

fn check_in(password: &str, context: &[&str]) -> Result<()> {
    let password = text(password);
    Policy::new(&config()).check_length(&password, "new_password")?;
    check_strength(&password, "new_password", &words(context))
}

#[rstest]
#[case("correct horse battery staple")]
#[case("violet-anchor-drums-91")]
#[case("a rather long passphrase")]
#[case("пароль для проверки входа")]
#[case("合言葉は誰にも教えないでくださいね")]
#[case("🦀🐙🦑🐡🐠🐟🐬🐳🐋🦈🐊🐅🐆🦓🦍")]
#[case("with\ttabs and \u{200b}odd \0 characters")]
fn good_ones_pass(#[case] password: &str) {
    check(password).unwrap();
}

#[rstest]
#[case::short("kX9#mQ2$vL7!pZ")]
#[case::common("password1234567")]
#[case::repeated("aaaaaaaaaaaaaaaaaaaa")]
#[case::repeated_word("passwordpassword")]
#[case::long_but_repeated(&"letmein".repeat(100))]
#[case::keyboard("qwertyuiopasdfghjkl")]
#[case::digits("123456789012345678")]
#[case::own_name("ada.lovelaceada.lovelace")]
#[case::own_email("ada@example.com")]
#[case::our_name("countersigncountersign")]
fn guessable_ones_are_too_weak(#[case] password: &str) {
    let error = check(password).unwrap_err();
    assert_eq!(error.kind, ErrorKind::PasswordTooWeak, "{password}");
    assert_eq!(error.violations[0].field, "new_password");
    assert!(!error.to_string().contains(password));
}

#[test]
fn length_counts_code_points_of_the_composed_form() {
    let decomposed = "e\u{301}u\u{308}o\u{302}a\u{300}n\u{303}c\u{327}kqZ8w";
    assert!(decomposed.chars().count() > 15);
    assert_eq!(check(decomposed).unwrap_err().kind, ErrorKind::PasswordTooWeak);
}

#[rstest]
#[case(64, true)]
#[case(MAX_BYTES - 1, true)]
#[case(MAX_BYTES, true)]
#[case(MAX_BYTES + 1, false)]
#[case(5 << 20, false)]
fn too_long_is_refused_before_anything_else(#[case] length: usize, #[case] good: bool) {
    let alphabet = b"gK4!wq9Zr#tB7mXe";
    let password: String = (0..length)
        .map(|i| char::from(alphabet[(i * i + i / 7) % alphabet.len()]))
        .collect();
    let result = check(&password);
    assert_eq!(
        result.as_ref().err().map(|error| error.kind),
        (!good).then_some(ErrorKind::InvalidRequest)
    );
}

#[test]
fn hostile_context_is_bounded() {
    let long = "x".repeat(1 << 20);
    let many: Vec<String> = (0..1_000).map(|i| format!("word{i}-{i}")).collect();
    let mut context: Vec<&str> = many.iter().map(String::as_str).collect();
    context.push(&long);
    check_in("violet-anchor-drums-91", &context).unwrap();
}

/// Without the limit on the prefix this takes minutes in a test build; with it, as long as a few hashes.
#[test]
fn a_text_of_look_alikes_is_looked_at_in_part() {
    let started = SystemClock::new();
    check(&"4@8({[<369!1|0$5+7%2zZ".repeat(40)).unwrap();
    assert!(
        started.monotonic() < Duration::from_secs(10),
        "{:?}",
        started.monotonic()
    );
}
