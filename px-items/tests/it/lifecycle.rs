//! The state machine as a whole: each pair is decided, and the diagram matches the code.

use px_items::item::{Event, State, diagram, step};
use std::{env, fmt::Write as _, fs, path::Path};

/// Every pair of state and event: a transition, or an error for an invalid one.
#[test]
fn every_pair_of_state_and_event_is_decided() {
    let mut table = String::new();
    for from in State::ALL {
        for event in Event::ALL {
            let line = match step(from, event) {
                Ok((to, effects)) => {
                    let effects: Vec<_> = effects.iter().map(ToString::to_string).collect();
                    format!("{from} | {event} | {to} | {}", effects.join(", "))
                }
                Err(invalid) => format!("{from} | {event} | impossible: {invalid}"),
            };
            writeln!(table, "{line}").unwrap();
        }
    }
    assert_eq!(table.lines().count(), State::ALL.len() * Event::ALL.len());
    insta::assert_snapshot!(table);
}

#[test]
fn an_item_can_always_be_left_and_never_comes_back() {
    for state in State::ALL {
        let left = step(state, Event::LastLeft);
        assert_eq!(left.is_ok(), state != State::Removed, "{state}");
        assert!(left.is_err() || left.is_ok_and(|(to, _)| to == State::Removed));
    }
}

/// No failure prevents further attempts; only a refused token does, and a new one ends that.
#[test]
fn every_state_but_removed_has_a_way_to_idle() {
    for state in State::ALL.into_iter().filter(|state| *state != State::Removed) {
        let mut at = state;
        for event in
            [Event::Repaired, Event::Claimed, Event::Failed, Event::Claimed, Event::Finished]
        {
            at = step(at, event).unwrap().0;
        }
        assert_eq!(at, State::Idle, "from {state}");
    }
}

#[test]
fn names_of_states_are_read_back() {
    for state in State::ALL {
        assert_eq!(State::from_name(state.as_str()), Some(state));
    }
    assert_eq!(State::from_name("Idle"), None);
}

#[test]
fn the_diagram_in_the_design_is_up_to_date() {
    const BEGIN: &str = "<!-- lifecycle:begin -->";
    const END: &str = "<!-- lifecycle:end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../DESIGN.md");
    let design = fs::read_to_string(&path).expect("DESIGN.md holds the diagram of the lifecycle");
    let parts = design.split_once(BEGIN).and_then(|(before, rest)| {
        rest.split_once(END).map(|(found, after)| (before, found, after))
    });
    let (before, found, after) =
        parts.unwrap_or_else(|| panic!("DESIGN.md has no lines `{BEGIN}` and `{END}`"));
    let wanted = format!("\n```mermaid\n{}```\n", diagram());
    if found == wanted {
        return;
    }
    if env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    panic!(
        "the diagram in DESIGN.md is out of date: run `UPDATE=1 cargo test -p px-items --test it lifecycle`"
    );
}
