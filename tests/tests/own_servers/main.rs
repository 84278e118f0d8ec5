//! Tests that start servers of their own, and break them. They run one after another.

mod faults;
mod stack_up;
