use std::{
    thread,
    time::{Duration, Instant},
};

use burn::tensor::{Device, Tensor};

use super::*;

fn together<T: Send>(size: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    let threads = Threads::new(size, Duration::from_secs(20));
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = threads.into_iter().map(|t| scope.spawn(move || work(t))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sums_are_the_same_for_all_round_after_round() {
    let results = together(3, |group| {
        (0..50)
            .map(|round| group.sum(vec![group.rank() as f64, round as f64]).unwrap())
            .collect::<Vec<_>>()
    });
    for result in results {
        assert!(result.iter().enumerate().all(|(round, sums)| *sums == [3.0, 3.0 * round as f64]));
    }
}

#[test]
fn bytes_of_the_first_reach_all() {
    let results = together(3, |group| {
        let own = format!("from {}", group.rank());
        broadcast(&group, own.into_bytes()).unwrap()
    });
    assert!(results.iter().all(|bytes| bytes == b"from 0"));
}

#[test]
fn tensors_are_summed_through_the_host_where_devices_cannot() {
    let device = Device::flex();
    let members = Devices::new(&[device.clone(), device.clone()], false, PATIENCE);
    let sums = thread::scope(|scope| {
        let running: Vec<_> = (members.into_iter())
            .map(|member| {
                let x = Tensor::from_floats([1.0, member.rank() as f32], &device);
                scope.spawn(move || member.sum_tensor(x).unwrap().into_data())
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(sums.iter().all(|sum| sum.as_slice::<f32>().unwrap() == [2.0, 1.0]));
}

#[test]
fn the_error_of_one_ends_the_others_with_its_message() {
    let begin = Instant::now();
    let results = together(3, |group| match group.rank() {
        1 => {
            group.fail("disk full");
            String::new()
        }
        _ => group.sum(vec![1.0]).unwrap_err().to_string(),
    });
    assert!(begin.elapsed() < Duration::from_secs(10));
    for message in [&results[0], &results[2]] {
        assert_eq!(message, "process 1 of the group has failed: disk full");
    }
}

#[test]
fn texts_of_all_reach_all_in_order() {
    let own = |rank| match rank {
        0 => vec!["ä".to_owned(), "b".to_owned()],
        1 => Vec::new(),
        _ => vec!["c".to_owned()],
    };
    let results = together(3, |group| gather_texts(&group, own(group.rank())).unwrap());
    assert!(results.iter().all(|texts| *texts == ["ä", "b", "c"]));
    assert!(together(2, |group| gather_texts(&group, Vec::new()).unwrap())[1].is_empty());
}

#[test]
fn who_is_lost_is_named() {
    let mut threads = Threads::new(2, Duration::from_millis(50));
    let error = threads.remove(0).sum(vec![1.0]).unwrap_err().to_string();
    assert!(error.contains("process 1 of the group has not answered"), "{error}");
    let unknown = TrainError::Lost { rank: 0, missing: Vec::new(), seconds: 60 }.to_string();
    assert!(unknown.contains("another process of the group has not answered"), "{unknown}");
}
