//! The tap of chat: any reply in any portions gives the same facts within the limits, and none makes it panic.
#![no_main]

use causeway_fuzz::check_reply;
use libfuzzer_sys::fuzz_target;
use providers::Api;

fuzz_target!(|body: &[u8]| check_reply(Api::ChatCompletions, body));
