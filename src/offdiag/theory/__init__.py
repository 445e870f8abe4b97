"""The theory lab: exact population dynamics of the two-neuron theorem and its relatives."""
