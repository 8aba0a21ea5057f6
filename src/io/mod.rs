//! (to come)
/// stub until the backends are merged
pub fn wall_clock_is_synchronised() -> bool {
    false
}
