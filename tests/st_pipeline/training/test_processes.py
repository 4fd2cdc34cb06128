import time
from dataclasses import replace
from st_pipeline.training.updates import update
def test_try(make_stream, make_history, compute, stored):
    stream = make_stream(models=[{"name":"m","backbone":{"name":"stgnn","hidden":8},"prompt_pool":{"rank":2},"strategy":"eac","training":{"epochs":3,"batch":64}}])
    history = make_history(stream)
    network=stored(history)
    key=stream.calendar.period(0).key
    t=time.time()
    told=[]
    two=update(stream,stream.models[0],key,network=network,previous={},compute=replace(compute,processes=2),log=told.append)
    print(told, time.time()-t); t=time.time()
    one=update(stream,stream.models[0],key,network=network,previous={},compute=compute)
    print(time.time()-t)
    seed = stream.models[0].runs[0]
    a,b=one["backbone"][seed].facts,two["backbone"][seed].facts
    for k in ("train_loss","validation_error"): print(a[k],b[k])
    print(one["backbone"][seed].digest==two["backbone"][seed].digest, two["backbone"][seed].cost)
