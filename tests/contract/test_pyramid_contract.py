"""Every store says again that it holds a picture's pyramid, and how large the picture is."""

from tilehaul.grid.pyramid import Pyramid, grid_of, pyramid_rows


async def test_a_pyramid_is_one_for_the_next_who_opens_it(backend, make):
    pyramid = Pyramid(700, 300)
    tiles = [make.png(tile_id) for tile_id in pyramid.walk()]
    job = make.job(planned=len(tiles), grid=grid_of(pyramid), metadata=tuple(pyramid_rows(pyramid).items()))
    store = backend.open()
    assert await store.begin(job) is None
    await store.commit(tiles)
    await store.finish(complete=True)
    await store.close()
    store = backend.open()
    assert (await store.source_info()).pyramid == pyramid
    await store.close()


async def test_a_map_is_none(backend, make):
    store = backend.open()
    await store.begin(make.job(planned=1))
    await store.commit([make.png(tile_id) for tile_id in Pyramid(1, 1).walk()])
    await store.finish(complete=True)
    assert (await store.source_info()).pyramid is None
    await store.close()
