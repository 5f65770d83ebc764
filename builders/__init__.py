"""Raw data -> manifests: the commands, over two flats that know nothing of each other.

reid        crops of people -> pairs
qa          video benchmarks -> questions

reid_hard   pairs of people                                        (command)
embed       images -> embeddings table, resumable                  (command)
qa_invert   questions on videos, a share of them inverted          (command)
synthetic   small data sets in the real layouts, with their truth  (command)
truth       what those keep beside them, read by both flats
"""
