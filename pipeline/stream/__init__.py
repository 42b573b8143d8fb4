"""The Faust worker: detection and rules in one step. The only package that imports Faust."""
