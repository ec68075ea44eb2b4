#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lyftr_fuzz::whatsapp(data));
