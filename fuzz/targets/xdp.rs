#![no_main]
use backstop_fuzz::XDP as TARGET;

libfuzzer_sys::fuzz_target!(init: TARGET.write_seeds(), |data: &[u8]| (TARGET.run)(data));
