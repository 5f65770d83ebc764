"""Raw data -> manifests: the commands, over two independent packages.

reid        crops of people -> pairs
qa          video benchmarks -> questions

reid_hard   pairs of people                                        (command)
embed       images -> embeddings table, resumable                  (command)
qa_invert   questions on videos, a share of them inverted          (command)
synthetic   small data sets in the real layouts, with their truth  (command)
truth       the truth beside synthetic data, read by both packages
"""
