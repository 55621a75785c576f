"""Matrix products: register tiles, the matrix unit, memory layouts, and the blocked product."""
