"""Raw data -> manifests.

sources/    one file per re-identification data set: folder -> table of images
benches/    one file per video benchmark: files -> table of questions
synthetic/  small data sets in the real layouts, drawn with a known truth      (command)

embed       images -> embeddings table, resumable                              (command)
neighbors   exact, IVF or GPU search behind one function
pairs       which pairs are non-trivial, and why; doubts, halves, merged: whose labels are doubtful
mining      search, doubt, choose, compare; coverage: what the chosen cover
forms       pairs and candidate sets as questions
reid_hard                                                                      (command)

negation    question -> its negation, or a refusal; grammar and lexicon: the English it knows
exclusion   do wrong options exclude the right one
inversion   questions -> inverted questions; samples: as rows of the contract; footage: their clips
qa_invert                                                                      (command)
rationales  reasoning text where a source carries its truth
"""
