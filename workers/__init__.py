"""Workers: a model, a shard, a method's worker half; the Ray actor that hosts several."""
