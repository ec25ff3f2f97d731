//! Weight files to named tensors.
