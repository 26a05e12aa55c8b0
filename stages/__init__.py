"""Folio: any text in, a trained, evaluated and sampled character-level language model out."""
