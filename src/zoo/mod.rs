//! Architectures: one file a family, as data on the layer graph, and the registry of them.
