"""Steps that are recorded once and replayed: what is recorded, how, and what torch does between."""
