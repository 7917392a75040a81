package broker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Tell implements Broker. The hint waits for the one before it to arrive or to be given up; one that waits already is
// dropped in its favour.
func (k *Kafka) Tell(_ context.Context, p Pointer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	if k.latest != nil {
		k.metrics.told.WithLabelValues("replaced").Inc()
	}
	k.latest = &p
	if k.producer == nil && !k.produce() {
		return
	}
	select {
	case k.news <- struct{}{}:
	default: // it is known that there is one
	}
}

// produce starts what tells. Called with mu held.
func (k *Kafka) produce() bool {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.DefaultProduceTopic(k.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordDeliveryTimeout(tellTimeout), kgo.ProduceRequestTimeout(tellTimeout),
		// Twice is as good as once, and needs no right to write idempotently.
		kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1),
		kgo.AllowAutoTopicCreation(), kgo.WithHooks(connections{&k.teller}),
	}, k.opts...)...)
	if err != nil {
		k.teller.failed(err)
		return false
	}
	k.producer = client
	k.done.Go(func() { k.tellAll(client) })
	return true
}

func (k *Kafka) tellAll(client *kgo.Client) {
	for {
		select {
		case <-k.news:
			k.tellLatest(client)
		case <-k.stop:
			k.tellLatest(client)
			return
		}
	}
}

// take returns the hint that is to be told, if there is one.
func (k *Kafka) take() *Pointer {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.latest
	k.latest = nil
	return p
}

func (k *Kafka) tellLatest(client *kgo.Client) {
	p := k.take()
	if p == nil {
		return
	}
	value, err := json.Marshal(p)
	if err != nil {
		panic(err) // it holds numbers and a string
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	if err := client.ProduceSync(ctx, &kgo.Record{Partition: partition, Value: value}).FirstErr(); err != nil {
		k.metrics.told.WithLabelValues("failed").Inc()
		k.teller.failed(err)
		client.PurgeTopicsFromProducing(k.topic) // else one that is created again stays unknown
		return
	}
	k.metrics.told.WithLabelValues("ok").Inc()
	k.teller.worked()
}

// Close implements Broker.
func (k *Kafka) Close() error {
	k.mu.Lock()
	client, again := k.producer, k.closed
	k.closed = true
	k.mu.Unlock()
	if again {
		return nil
	}
	close(k.stop)
	if client == nil {
		return nil
	}
	told := make(chan struct{})
	go func() { // ends with the one it waits for, which Close waits for below
		k.done.Wait()
		close(told)
	}()
	patience := time.NewTimer(lastWord)
	defer patience.Stop()
	select {
	case <-told:
	case <-patience.C:
	}
	client.Close() // fails what is still under way
	<-told
	return nil
}
