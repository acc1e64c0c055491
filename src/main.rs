//! The command `countersign`: arguments in, exit code out.

fn main() {}
