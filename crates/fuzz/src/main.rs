//! One binary for every property; `FUZZ_PROPERTY` names the one to check.
#![no_main]

use std::sync::LazyLock;

use dataplane::properties::{ALL, Property};
use libfuzzer_sys::fuzz_target;

static PROPERTY: LazyLock<Property> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_PROPERTY").unwrap_or_default();
    let found = ALL.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("FUZZ_PROPERTY={wanted:?}: expected one of {:?}", ALL.map(|(name, _)| name))).1
});

fuzz_target!(|data: &[u8]| PROPERTY(data));
