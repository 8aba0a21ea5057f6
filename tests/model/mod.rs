//! What several tests share: questions and replies, zones as plain maps, random numbers. None of
//! it leans on the code under test.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]
#![allow(clippy::cast_possible_truncation, reason = "a random number may lose bits")]

pub mod case;
pub mod message;
pub mod random;
pub mod sign;
pub mod zone;
