//! Text and JSON tables of a graph.
