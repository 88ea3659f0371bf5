//! What the code that the attribute writes refers to; not for anybody else.
