"""Why a run goes wrong: the catalogue of causes, and the search for them in what was recorded."""
